//! A counter by compare-and-swap, as `wasi:keyvalue/atomics` has it.

use plugnode_sdk::prelude::*;

/// Counts under a key, and returns the count.
#[cfg(target_family = "wasm")]
pub(crate) fn swap(key: &str) -> Result<u64> {
    use plugnode_sdk::bindings::wasi::keyvalue::atomics::{self, Cas, CasError};
    use plugnode_sdk::bindings::wasi::keyvalue::store;

    let failed = |error: store::Error| Error::retry(format!("{error:?}"));
    let count_of = |cas: &Cas| -> Result<u64> {
        let current = cas.current().map_err(failed)?;
        let text = current.map(String::from_utf8).transpose();
        let text = text.map_err(|error| Error::reject(error.to_string()))?;
        text.map_or(Ok(0), |text| text.parse().map_err(|_| Error::reject("it is no number")))
    };
    let bucket = store::open("default").map_err(failed)?;
    // This handle is out of date before it is used, by what the same event writes.
    let stale = Cas::new(&bucket, key).map_err(failed)?;
    let count = count_of(&stale)? + 1;
    bucket.set(key, b"0").map_err(failed)?;
    let fresh = match atomics::swap(stale, b"never") {
        Err(CasError::CasFailed(fresh)) => fresh,
        other => return Err(Error::reject(format!("a stale handle was taken: {other:?}"))),
    };
    if count_of(&fresh)? != 0 {
        return Err(Error::reject("a fresh handle does not know what was written"));
    }
    match atomics::swap(fresh, count.to_string().as_bytes()) {
        Ok(()) => Ok(count),
        Err(error) => Err(Error::reject(format!("a fresh handle was refused: {error:?}"))),
    }
}

/// There are no handles but in a component.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn swap(_: &str) -> Result<u64> {
    Err(Error::reject("this is no component"))
}
