//! The scripts that change things. Each is a file that tells its keys, arguments, answers and invariant.

use super::connection::Script;

macro_rules! scripts {
    ($($name:ident = $file:literal),* $(,)?) => {$(
        pub(super) static $name: Script = Script::new($file, include_str!(concat!("scripts/", $file, ".lua")));
    )*};
}

scripts! {
    META = "meta",
    JOIN_IO = "join_io",
    LEAVE_IO = "leave_io",
    LEAVE_APP = "leave_app",
    BEAT = "beat",
    CLAIM = "claim",
    RELEASE = "release",
    INGEST = "ingest",
    COMMIT = "commit",
    TRIM = "trim",
    TRIM_DEAD = "trim_dead",
    TELL = "tell",
    APPLY = "apply",
    BURY = "bury",
    CONDEMN = "condemn",
    REVIVE = "revive",
    POST_BOARD = "post_board",
    PUT_COMPONENT = "put_component",
    PRUNE_COMPONENT = "prune_component",
    FORGET_REPORT = "forget_report",
    LOCK = "lock",
    UNLOCK = "unlock",
    HOLDER = "holder",
    READ = "read",
    KEYS = "keys",
}
