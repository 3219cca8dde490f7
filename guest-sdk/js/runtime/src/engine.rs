//! The QuickJS engine of an instance: evaluates the script, then runs each event to its end.
//!
//! An event has ended when no promise job is left and `advance` of `../../src/internal.js` has nothing to wait for. A script that
//! runs for too long is interrupted by an error that it cannot catch, shortly before the host would end the whole instance.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use rquickjs::context::EvalOptions;
use rquickjs::function::Args;
use rquickjs::promise::PromiseState;
use rquickjs::{
    CatchResultExt, CaughtError, Context, Ctx, Function, Module, Object, Persistent, Promise, Runtime, Value,
};

use crate::bindings::plugnode::app::types;
use crate::bindings::plugnode::script::source;
use crate::bindings::wasi::config::store;
use crate::events;
use crate::host;
use crate::modules::{Modules, SOURCES};

/// Stack in linear memory that JavaScript may use, in bytes. Small enough that deep recursion is a RangeError before it overflows
/// the host's native stack.
const STACK: usize = 208 << 10;
/// Time limit for evaluating the script. The host's limit for the start of an instance is 10 s.
const START_LIMIT: Duration = Duration::from_secs(9);

thread_local! {
    static ENGINE: RefCell<Option<Engine>> = const { RefCell::new(None) };
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
    /// Whether the script has changed built-in functions so that the runtime no longer works.
    static IS_DAMAGED: Cell<bool> = const { Cell::new(false) };
    static CALL: RefCell<Option<types::Context>> = const { RefCell::new(None) };
    /// `trackRejection` of `internal.js`; none until that module has run.
    static TRACK_REJECTION: RefCell<Option<Persistent<Function<'static>>>> = const { RefCell::new(None) };
}

struct Engine {
    context: Context,
    functions: Functions,
    // Last, because it must be dropped after the values in it.
    _runtime: Runtime,
}

/// Functions of `internal.js`.
#[derive(Clone)]
struct Functions {
    dispatch: Persistent<Function<'static>>,
    advance: Persistent<Function<'static>>,
    abort: Persistent<Function<'static>>,
    set_wrapper: Persistent<Function<'static>>,
    run_common: Persistent<Function<'static>>,
}

/// The context of the current call.
pub(crate) fn call() -> Option<types::Context> {
    CALL.with_borrow(Clone::clone)
}

/// The time left in the current call.
pub(crate) fn time_left() -> Duration {
    let deadline = DEADLINE.get();
    deadline.map_or(Duration::ZERO, |deadline| {
        deadline.saturating_duration_since(Instant::now())
    })
}

/// Evaluates the script. The error is meant for the script's author.
pub(crate) fn start(config: Vec<(String, String)>) -> Result<(), String> {
    DEADLINE.set(Some(Instant::now() + START_LIMIT));
    let engine = Engine::start(config)?;
    ENGINE.set(Some(engine));
    Ok(())
}

/// Handles an event.
pub(crate) fn handle(event: types::Event, context: types::Context) -> Result<(), types::HandlerError> {
    if IS_DAMAGED.get() {
        // Ends the instance. The host handles the event again in a new one.
        panic!(
            "an earlier event changed built-in functions that the runtime needs; a new instance takes the place of this one"
        );
    }
    if ENGINE.with_borrow(Option::is_none) {
        let config = store::get_all().unwrap_or_default();
        start(config).map_err(types::HandlerError::Reject)?;
    }
    let budget = Duration::from_millis(context.budget_ms.into());
    // The host's clock starts earlier and ends the whole instance, so stop well before its limit.
    DEADLINE.set(Some(Instant::now() + budget.mul_f32(0.9)));
    CALL.set(Some(context));
    ENGINE.with_borrow(|engine| engine.as_ref().expect("started above").handle(event))
}

impl Engine {
    fn start(config: Vec<(String, String)>) -> Result<Self, String> {
        let failed = |error: rquickjs::Error| format!("QuickJS failed to start: {error}");
        let runtime = Runtime::new().map_err(failed)?;
        runtime.set_max_stack_size(STACK);
        runtime.set_loader(Modules, Modules);
        runtime.set_interrupt_handler(Some(Box::new(|| {
            DEADLINE.get().is_some_and(|deadline| Instant::now() >= deadline)
        })));
        runtime.set_host_promise_rejection_tracker(Some(Box::new(|ctx, promise, reason, is_handled| {
            let Some(track) = TRACK_REJECTION.with_borrow(Clone::clone) else {
                return;
            };
            let tracked = track
                .restore(&ctx)
                .and_then(|track| track.call::<_, ()>((promise, reason, is_handled)));
            drop(tracked.catch(&ctx));
        })));
        let context = Context::full(&runtime).map_err(failed)?;
        let functions = context.with(|ctx| {
            let functions = prepare(&ctx, config).catch(&ctx).map_err(|error| error.to_string())?;
            evaluate(&ctx, &functions)?;
            Ok::<_, String>(functions)
        })?;
        Ok(Self {
            context,
            functions,
            _runtime: runtime,
        })
    }

    fn handle(&self, event: types::Event) -> Result<(), types::HandlerError> {
        self.context.with(|ctx| {
            let functions = &self.functions;
            let begun = dispatch(&ctx, functions, event).catch(&ctx);
            let ended = match begun {
                Ok(()) => run_to_end(&ctx, functions),
                Err(error) => Err(explain(&ctx, functions, error)),
            };
            ended.map_err(|text| match text.strip_prefix("retry:") {
                Some(reason) => types::HandlerError::Retry(reason.to_owned()),
                None => types::HandlerError::Reject(text),
            })
        })
    }
}

/// Loads the runtime's modules, and returns the functions to call.
fn prepare(ctx: &Ctx<'_>, config: Vec<(String, String)>) -> rquickjs::Result<Functions> {
    let host = host::object(ctx)?;
    let sources = Object::new(ctx.clone())?;
    for (name, source) in SOURCES {
        sources.set(*name, *source)?;
    }
    let settings = Object::new(ctx.clone())?;
    for (key, value) in config {
        settings.set(key, value)?;
    }
    let mut options = EvalOptions::default();
    options.filename = Some("plugnode:boot".to_owned());
    let boot: Function<'_> = ctx.eval_with_options(include_str!("../../src/boot.js"), options)?;
    let internal: Object<'_> = boot.call((host, sources, settings))?;
    let function = |name: &str| Ok::<_, rquickjs::Error>(Persistent::save(ctx, internal.get::<_, Function<'_>>(name)?));
    TRACK_REJECTION.set(Some(function("trackRejection")?));
    Ok(Functions {
        run_common: function("runCommon")?,
        set_wrapper: function("setWrapper")?,
        dispatch: function("dispatch")?,
        advance: function("advance")?,
        abort: function("abort")?,
    })
}

/// Evaluates the script, including its top-level awaits.
fn evaluate(ctx: &Ctx<'_>, functions: &Functions) -> Result<(), String> {
    let names = source::names();
    let Some(name) = names.first() else {
        return Err("this component has no script: build it with plugnode build app.js".to_owned());
    };
    let text = source::read(name).unwrap_or_default();
    let text = String::from_utf8(text).map_err(|_| format!("{name} is not UTF-8"))?;
    let evaluated = if is_module(name, &text) {
        evaluate_module(ctx, name, &text).map(Some)
    } else {
        evaluate_common(ctx, functions, name, &text).map(|()| None)
    };
    let promise = evaluated.catch(ctx).map_err(|error| explain(ctx, functions, error))?;
    run_to_end(ctx, functions)?;
    let Some(promise) = promise else { return Ok(()) };
    match promise.state() {
        PromiseState::Resolved => Ok(()),
        PromiseState::Rejected => {
            let result = promise.result::<Value<'_>>().expect("the promise is settled").map(drop);
            Err(explain(
                ctx,
                functions,
                result.catch(ctx).expect_err("the promise is rejected"),
            ))
        }
        PromiseState::Pending => Err(format!("{name}: a top-level await never completes")),
    }
}

/// Evaluates an ES module, whose `import.meta` is that of a file at the root.
fn evaluate_module<'js>(ctx: &Ctx<'js>, name: &str, text: &str) -> rquickjs::Result<Promise<'js>> {
    let module = Module::declare(ctx.clone(), name, text)?;
    let meta = module.meta()?;
    meta.set("url", format!("file:///{name}"))?;
    meta.set("filename", format!("/{name}"))?;
    meta.set("dirname", "/")?;
    let (_, promise) = module.eval()?;
    Ok(promise)
}

/// Whether a script is an ES module; like Node, by its extension, otherwise by its syntax.
fn is_module(name: &str, text: &str) -> bool {
    let has_syntax = || {
        text.lines().any(|line| {
            let line = line.trim_start();
            [
                "import ", "import{", "import\"", "import'", "export ", "export{", "export*",
            ]
            .iter()
            .any(|word| line.starts_with(word))
        })
    };
    name.ends_with(".mjs") || !name.ends_with(".cjs") && has_syntax()
}

/// Evaluates a CommonJS script. Like Node, wraps it in a function without moving its first line.
fn evaluate_common(ctx: &Ctx<'_>, functions: &Functions, name: &str, text: &str) -> rquickjs::Result<()> {
    let mut options = EvalOptions::default();
    options.strict = false;
    options.filename = Some(name.to_owned());
    // A line for the shell, as scripts with `#!/usr/bin/env node` have it, becomes a comment of the same length.
    let text = match text.strip_prefix("#!") {
        Some(rest) => format!("//{rest}"),
        None => text.to_owned(),
    };
    const HEAD: &str = "(function (exports, require, module, __filename, __dirname) {";
    let text = format!("{HEAD}{text}\n}})");
    // Columns of errors on the first line are shown without the wrapper.
    let set_wrapper = functions.set_wrapper.clone().restore(ctx)?;
    set_wrapper.call::<_, ()>((name, HEAD.len()))?;
    let body: Function<'_> = ctx.eval_with_options(text, options)?;
    functions.run_common.clone().restore(ctx)?.call((body, name))
}

fn dispatch(ctx: &Ctx<'_>, functions: &Functions, event: types::Event) -> rquickjs::Result<()> {
    let mut args = Args::new(ctx.clone(), 12);
    events::push(ctx, &mut args, event)?;
    functions.dispatch.clone().restore(ctx)?.call_arg(args)
}

/// Runs promise jobs and timers until the event has ended. The error is the text that `internal.js` returns.
fn run_to_end(ctx: &Ctx<'_>, functions: &Functions) -> Result<(), String> {
    let advance = functions
        .advance
        .clone()
        .restore(ctx)
        .catch(ctx)
        .map_err(|error| error.to_string())?;
    loop {
        while ctx.execute_pending_job() {}
        let next: Value<'_> = match advance.call(()).catch(ctx) {
            Ok(next) => next,
            Err(error) => return Err(explain(ctx, functions, error)),
        };
        if let Some(text) = next.as_string() {
            return Err(text.to_string().unwrap_or_default());
        }
        // Milliseconds until the next timer; 0 if there may be new jobs.
        let Some(wait) = next.as_number() else { return Ok(()) };
        if wait > 0.0 {
            std::thread::sleep(Duration::from_secs_f64(wait / 1000.0).min(time_left()));
        }
    }
}

/// The text of an error that `internal.js` could not format, because the script has changed what formatting relies on, without the
/// runtime's own stack frames.
fn without_own_frames(text: &str) -> String {
    let is_own = |line: &str| {
        line.trim_start().starts_with("at ")
            && ["<input>", "plugnode:", "(native)"]
                .iter()
                .any(|own| line.contains(own))
    };
    let kept: Vec<_> = text.lines().filter(|line| !is_own(line)).collect();
    kept.join("\n").trim_end().to_owned()
}

/// Aborts the current event and formats its error: the message, and the position in the script's own files.
fn explain<'js>(ctx: &Ctx<'js>, functions: &Functions, error: CaughtError<'js>) -> String {
    let fallback = without_own_frames(&error.to_string());
    // After a time-out, formatting the error needs time of its own.
    DEADLINE.set(Some(Instant::now() + Duration::from_millis(40)));
    let thrown = match error {
        CaughtError::Exception(exception) => exception.into_object().into_value(),
        CaughtError::Value(value) => value,
        CaughtError::Error(_) => return fallback,
    };
    let abort = functions.abort.clone().restore(ctx);
    let explained = abort.and_then(|abort| abort.call::<_, String>((thrown,)));
    explained.unwrap_or_else(|_| {
        IS_DAMAGED.set(true);
        fallback
    })
}
