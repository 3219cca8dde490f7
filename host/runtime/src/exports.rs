//! The exports of a component: `handler`, and optionally `lifecycle` and `snapshot`. Each is looked up by name; semver-compatible
//! versions match, so handlers that were built against an older contract keep working.

use wasmtime::Store;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{ComponentNamedList, InstancePre, Lift, Lower};

use crate::bindings::exports::plugnode::app::{handler, lifecycle, snapshot};
use crate::bindings::plugnode::app::types::{Context, Event, HandlerError};
use crate::contract::{HANDLER, LIFECYCLE, SNAPSHOT, VERSION};
use crate::state::InstanceState;

/// A linked component whose exports were found and have the right types.
#[derive(Clone)]
pub(crate) struct HandlerPre {
    pre: InstancePre<InstanceState>,
    handler: handler::GuestIndices,
    lifecycle: Option<lifecycle::GuestIndices>,
    snapshot: Option<snapshot::GuestIndices>,
}

/// The exports of one instance.
pub(crate) struct GuestExports {
    pub(crate) handler: handler::Guest,
    pub(crate) lifecycle: Option<lifecycle::Guest>,
    pub(crate) snapshot: Option<snapshot::Guest>,
}

impl HandlerPre {
    /// Looks the exports up.
    ///
    /// # Errors
    /// Which function is missing or has another type.
    pub(crate) fn new(pre: InstancePre<InstanceState>) -> wasmtime::Result<Self> {
        let lifecycle = has(&pre, LIFECYCLE).then(|| {
            check::<(&[(&str, &str)],), (Result<(), String>,)>(&pre, LIFECYCLE, "start")?;
            check::<(), ()>(&pre, LIFECYCLE, "stop")?;
            lifecycle::GuestIndices::new(&pre)
        });
        let snapshot = has(&pre, SNAPSHOT).then(|| {
            check::<(), (Result<snapshot::StateResult, String>,)>(&pre, SNAPSHOT, "save")?;
            check::<(snapshot::StateParam<'_>,), (Result<(), String>,)>(&pre, SNAPSHOT, "load")?;
            snapshot::GuestIndices::new(&pre)
        });
        let (lifecycle, snapshot) = (lifecycle.transpose()?, snapshot.transpose()?);
        check::<(&Event<'_>, &Context<'_>), (Result<(), HandlerError>,)>(&pre, HANDLER, "handle")?;
        Ok(Self {
            handler: handler::GuestIndices::new(&pre)?,
            lifecycle,
            snapshot,
            pre,
        })
    }

    pub(crate) fn engine(&self) -> &wasmtime::Engine {
        self.pre.engine()
    }

    /// Whether its instances can save and load their state.
    pub(crate) fn carries_state(&self) -> bool {
        self.snapshot.is_some()
    }

    pub(crate) async fn instantiate_async(
        &self,
        mut store: &mut Store<InstanceState>,
    ) -> wasmtime::Result<GuestExports> {
        let instance = self.pre.instantiate_async(&mut store).await?;
        Ok(GuestExports {
            handler: self.handler.load(&mut store, &instance)?,
            lifecycle: match &self.lifecycle {
                Some(lifecycle) => Some(lifecycle.load(&mut store, &instance)?),
                None => None,
            },
            snapshot: match &self.snapshot {
                Some(snapshot) => Some(snapshot.load(&mut store, &instance)?),
                None => None,
            },
        })
    }
}

fn has(pre: &InstancePre<InstanceState>, interface: &str) -> bool {
    let name = format!("{interface}@{}", VERSION);
    pre.component().get_export_index(None, name.as_str()).is_some()
}

/// Checks that the interface has this function, with this type.
fn check<Params, Return>(pre: &InstancePre<InstanceState>, interface: &str, function: &str) -> wasmtime::Result<()>
where
    Params: ComponentNamedList + Lower,
    Return: ComponentNamedList + Lift,
{
    let component = pre.component();
    let name = format!("{interface}@{}", VERSION);
    let instance = component.get_export_index(None, name.as_str());
    let item = instance.and_then(|instance| component.get_export(Some(&instance), function));
    match item {
        Some((ComponentItem::ComponentFunc(found), _)) => found
            .typecheck::<Params, Return>(&pre.instance_type())
            .map_err(|error| error.context(format!("the function `{function}` of {name} has another type"))),
        _ => Err(wasmtime::Error::msg(format!("{name} has no function `{function}`"))),
    }
}
