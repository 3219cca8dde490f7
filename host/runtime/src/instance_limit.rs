//! Limits how many instances one engine has at the same time, over all apps.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::load_error::LoadError;

/// The limit. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct InstanceLimit {
    semaphore: Arc<Semaphore>,
    max: usize,
}

/// Permission to have one instance. Released when it is dropped.
#[derive(Debug)]
pub(crate) struct InstancePermit {
    _permit: OwnedSemaphorePermit,
}

impl InstanceLimit {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            semaphore: Arc::new(Semaphore::new(max)),
            max,
        }
    }

    /// A permit, if the limit is not reached. Does not wait.
    pub(crate) fn acquire(&self) -> Result<InstancePermit, LoadError> {
        let permit = self
            .semaphore
            .clone()
            .try_acquire_owned()
            .map_err(|_| LoadError::Full { max: self.max })?;
        Ok(InstancePermit { _permit: permit })
    }
}
