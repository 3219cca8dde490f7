//! The contract's imports on targets other than wasm: the same functions, which call the [`Host`](super::Host) of the current
//! thread. Those of `outbox` are in `command`.

/// Defines functions of the contract that record their arguments as a [`Command`](super::Command) with the same fields.
macro_rules! record_commands {
    ($record:ident: $(fn $function:ident($($field:ident: $type:ty),*) => $command:ident;)*) => {
        $(pub(crate) fn $function($($field: $type),*) -> Result<(), Error> {
            $record(Command::$command { $($field: $field.to_owned()),* })
        })*
    };
}
pub(crate) use record_commands;

pub(crate) mod schedule {
    use super::super::Command;
    use super::super::host::call_host;
    use crate::bindings::plugnode::app::outbox;
    pub(crate) use crate::bindings::plugnode::app::schedule::{Error, Owner};

    fn record(command: Command) -> Result<(), Error> {
        call_host(|host| host.command(command)).map_err(|error| match error {
            outbox::Error::Denied(reason) => Error::Denied(reason),
            outbox::Error::QuotaExceeded => Error::QuotaExceeded,
            outbox::Error::PayloadTooLarge => Error::Invalid("the data exceeds the host's size limit".into()),
            outbox::Error::Invalid(reason) => Error::Invalid(reason),
            outbox::Error::Other(reason) => Error::Other(reason),
        })
    }

    record_commands! { record:
        fn at(owner: Owner, key: &str, time_ms: u64, kind: &str, data: &[u8]) => At;
        fn every(owner: Owner, key: &str, period_ms: u64, kind: &str, data: &[u8]) => Every;
        fn cancel(owner: Owner, key: &str) => Cancel;
    }
}

pub(crate) mod presence {
    use super::super::host::call_host;
    pub(crate) use crate::bindings::plugnode::app::presence::{Error, Page};

    pub(crate) fn count(channel: &str) -> Result<u64, Error> {
        call_host(|host| host.presence_count(channel))
    }

    pub(crate) fn members(channel: &str, cursor: Option<u64>) -> Result<Page, Error> {
        call_host(|host| host.presence(channel, cursor))
    }
}

pub(crate) mod store {
    use super::super::host::call_host;
    pub(crate) use crate::bindings::wasi::keyvalue::store::{Error, KeyResponse};

    #[derive(Debug)]
    pub(crate) struct Bucket {
        pub(super) name: String,
    }

    pub(crate) fn open(name: &str) -> Result<Bucket, Error> {
        call_host(|host| host.open(name))?;
        Ok(Bucket { name: name.into() })
    }

    impl Bucket {
        pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
            let values = call_host(|host| host.get(&self.name, &[key.into()]))?;
            Ok(values.into_iter().next().flatten())
        }

        pub(crate) fn set(&self, key: &str, value: &[u8]) -> Result<(), Error> {
            self.write(vec![(key.into(), Some(value.into()))])
        }

        pub(crate) fn delete(&self, key: &str) -> Result<(), Error> {
            self.write(vec![(key.into(), None)])
        }

        pub(crate) fn exists(&self, key: &str) -> Result<bool, Error> {
            Ok(self.get(key)?.is_some())
        }

        pub(crate) fn list_keys(&self, cursor: Option<u64>) -> Result<KeyResponse, Error> {
            call_host(|host| host.keys(&self.name, "", cursor))
        }

        pub(super) fn write(&self, pairs: Vec<(String, Option<Vec<u8>>)>) -> Result<(), Error> {
            call_host(|host| host.write(&self.name, pairs))
        }
    }
}

pub(crate) mod batch {
    use super::super::host::call_host;
    use super::store::{Bucket, Error};

    type Pair = (String, Vec<u8>);

    pub(crate) fn get_many(bucket: &Bucket, keys: &[String]) -> Result<Vec<Option<Pair>>, Error> {
        let values = call_host(|host| host.get(&bucket.name, keys))?;
        let pairs = keys.iter().zip(values);
        Ok(pairs
            .map(|(key, value)| value.map(|value| (key.clone(), value)))
            .collect())
    }

    pub(crate) fn set_many(bucket: &Bucket, pairs: &[Pair]) -> Result<(), Error> {
        let pairs = pairs.iter().cloned();
        bucket.write(pairs.map(|(key, value)| (key, Some(value))).collect())
    }

    pub(crate) fn delete_many(bucket: &Bucket, keys: &[String]) -> Result<(), Error> {
        bucket.write(keys.iter().map(|key| (key.clone(), None)).collect())
    }
}

pub(crate) mod atomics {
    use super::super::host::call_host;
    use super::store::{Bucket, Error};

    pub(crate) fn increment(bucket: &Bucket, key: &str, delta: u64) -> Result<u64, Error> {
        let other = |reason: &str| Error::Other(format!("cannot increment key {key:?}: {reason}"));
        let number: i64 = match bucket.get(key)? {
            None => 0,
            Some(value) => integer_of(&value).ok_or_else(|| other("its value is not an integer"))?,
        };
        let delta = i64::try_from(delta).ok();
        let sum = delta.and_then(|delta| number.checked_add(delta));
        let sum = sum.ok_or_else(|| other("the sum is too large"))?;
        let answer = u64::try_from(sum).map_err(|_| other("the sum is negative"))?;
        call_host(|host| host.add(&bucket.name, key, sum - number)).map_err(|error| other(&error.to_string()))?;
        Ok(answer)
    }

    fn integer_of(value: &[u8]) -> Option<i64> {
        std::str::from_utf8(value).ok()?.parse().ok()
    }
}

pub(crate) mod kv {
    use super::super::host::call_host;
    pub(crate) use crate::bindings::plugnode::app::kv::{Error, Page};
    use crate::bindings::wasi::keyvalue::store;

    pub(crate) fn add(bucket: &str, key: &str, delta: i64) -> Result<(), Error> {
        call_host(|host| host.add(bucket, key, delta))
    }

    pub(crate) fn set_with_ttl(bucket: &str, key: &str, value: &[u8], ttl_ms: u64) -> Result<(), Error> {
        call_host(|host| host.set_with_ttl(bucket, key, value, ttl_ms))
    }

    pub(crate) fn list_keys(bucket: &str, prefix: &str, cursor: Option<u64>) -> Result<Page, Error> {
        let page = call_host(|host| host.keys(bucket, prefix, cursor)).map_err(|error| match error {
            store::Error::NoSuchStore | store::Error::AccessDenied => Error::Denied(format!("{bucket:?}")),
            store::Error::Other(reason) => Error::Other(reason),
        })?;
        Ok(Page {
            keys: page.keys,
            cursor: page.cursor,
        })
    }
}

pub(crate) mod config {
    use super::super::host::call_host;
    pub(crate) use crate::bindings::wasi::config::store::Error;

    pub(crate) fn get(key: &str) -> Result<Option<String>, Error> {
        let mut all = get_all()?.into_iter();
        Ok(all.find(|(found, _)| found == key).map(|(_, value)| value))
    }

    pub(crate) fn get_all() -> Result<Vec<(String, String)>, Error> {
        Ok(call_host(|host| host.config()))
    }
}

pub(crate) mod logging {
    use super::super::Level;
    use super::super::host::call_host;

    pub(crate) fn log(level: Level, context: &str, message: &str) {
        call_host(|host| host.log(level, context, message));
    }
}
