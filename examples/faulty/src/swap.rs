//! A counter with compare-and-swap of `wasi:keyvalue/atomics`.

use plugnode_sdk::prelude::*;

/// Increments the counter under a key and returns it. Also checks that a stale handle is refused.
#[cfg(target_family = "wasm")]
pub(crate) fn swap(key: &str) -> Result<u64> {
    use plugnode_sdk::bindings::wasi::keyvalue::atomics::{self, Cas, CasError};
    use plugnode_sdk::bindings::wasi::keyvalue::store;

    let failed = |error: store::Error| Error::retry(format!("{error:?}"));
    let count_of = |cas: &Cas| -> Result<u64> {
        let current = cas.current().map_err(failed)?;
        let text = current.map(String::from_utf8).transpose();
        let text = text.map_err(|error| Error::reject(error.to_string()))?;
        text.map_or(Ok(0), |text| {
            text.parse().map_err(|_| Error::reject("the value is not a number"))
        })
    };
    let bucket = store::open("default").map_err(failed)?;
    // The write below makes this handle stale.
    let stale = Cas::new(&bucket, key).map_err(failed)?;
    let count = count_of(&stale)? + 1;
    bucket.set(key, b"0").map_err(failed)?;
    let fresh = match atomics::swap(stale, b"never") {
        Err(CasError::CasFailed(fresh)) => fresh,
        other => return Err(Error::reject(format!("a stale handle was accepted: {other:?}"))),
    };
    if count_of(&fresh)? != 0 {
        return Err(Error::reject("the new handle does not have the written value"));
    }
    match atomics::swap(fresh, count.to_string().as_bytes()) {
        Ok(()) => Ok(count),
        Err(error) => Err(Error::reject(format!("the new handle was refused: {error:?}"))),
    }
}

/// The test kit has no compare-and-swap handles.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn swap(_: &str) -> Result<u64> {
    Err(Error::reject("compare-and-swap is available only in a component"))
}
