//! What a component exports of the contract: `handler` always, `lifecycle` and `snapshot` if it likes. Each is looked up
//! by name, and a version of the same track does, so that handlers that were built before there was more go on working.

use wasmtime::Store;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{ComponentNamedList, InstancePre, Lift, Lower};

use super::bindings::exports::plugnode::app::{handler, lifecycle, snapshot};
use super::bindings::plugnode::app::types::{Context, Event, HandlerError};
use super::inspect::{CONTRACT, HANDLER, LIFECYCLE, SNAPSHOT};
use super::state::State;

/// A linked component whose exports have been found and are of the right types.
#[derive(Clone)]
pub(super) struct HandlerPre {
    pre: InstancePre<State>,
    handler: handler::GuestIndices,
    lifecycle: Option<lifecycle::GuestIndices>,
    snapshot: Option<snapshot::GuestIndices>,
}

/// The exports of one instance.
pub(super) struct Guest {
    pub(super) handler: handler::Guest,
    pub(super) lifecycle: Option<lifecycle::Guest>,
    pub(super) snapshot: Option<snapshot::Guest>,
}

impl HandlerPre {
    /// Looks them up. An error says which function is missing or of another type.
    pub(super) fn new(pre: InstancePre<State>) -> wasmtime::Result<Self> {
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

    pub(super) fn engine(&self) -> &wasmtime::Engine {
        self.pre.engine()
    }

    /// Whether its instances can save what they have in memory, and load it.
    pub(super) fn carries_state(&self) -> bool {
        self.snapshot.is_some()
    }

    pub(super) async fn instantiate_async(&self, mut store: &mut Store<State>) -> wasmtime::Result<Guest> {
        let instance = self.pre.instantiate_async(&mut store).await?;
        Ok(Guest {
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

fn has(pre: &InstancePre<State>, interface: &str) -> bool {
    let name = format!("{interface}@{}", CONTRACT.1);
    pre.component().get_export_index(None, name.as_str()).is_some()
}

/// That there is a function of this type.
fn check<Params, Return>(pre: &InstancePre<State>, interface: &str, function: &str) -> wasmtime::Result<()>
where
    Params: ComponentNamedList + Lower,
    Return: ComponentNamedList + Lift,
{
    let component = pre.component();
    let name = format!("{interface}@{}", CONTRACT.1);
    let instance = component.get_export_index(None, name.as_str());
    let item = instance.and_then(|instance| component.get_export(Some(&instance), function));
    match item {
        Some((ComponentItem::ComponentFunc(found), _)) => found
            .typecheck::<Params, Return>(&pre.instance_type())
            .map_err(|error| error.context(format!("the function `{function}` of {name} has another type"))),
        _ => Err(wasmtime::Error::msg(format!("{name} has no function `{function}`"))),
    }
}
