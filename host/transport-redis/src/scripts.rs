//! The scripts that change things. Each is a file that tells its keys, arguments, answers and invariant, and why a copy of a
//! call does no harm that a slow connection delivers long after the call was answered.

use crate::client::script::Script;

/// A script is the file of its name; those of `shared` that it uses stand before it, and then the flags are said here.
macro_rules! code {
    ($file:literal) => {
        include_str!(concat!("scripts/", $file, ".lua"))
    };
    ($file:literal, $flags:literal, $($shared:literal),+) => {
        concat!(
            "#!lua", $flags, "\n",
            $(include_str!(concat!("scripts/shared/", $shared, ".lua")),)+
            include_str!(concat!("scripts/", $file, ".lua")),
        )
    };
}

macro_rules! scripts {
    ($($name:ident = ($file:literal $($rest:tt)*)),* $(,)?) => {$(
        pub(crate) static $name: Script = Script::new($file, code!($file $($rest)*));
    )*};
}

scripts! {
    META = ("meta"),
    JOIN_IO = ("join_io", "", "clock"),
    LEAVE_IO = ("leave_io"),
    FENCE_IO = ("fence_io"),
    LEAVE_APP = ("leave_app"),
    BEAT = ("beat", " flags=allow-oom", "clock"),
    CLAIM = ("claim"),
    BEGIN = ("begin"),
    SPARE = ("spare"),
    RELEASE = ("release"),
    INGEST = ("ingest", "", "log"),
    COMMIT = ("commit", " flags=allow-oom", "sizes"),
    TRIM = ("trim"),
    TRIM_DEAD = ("trim_dead"),
    TELL = ("tell"),
    APPLY = ("apply", " flags=allow-oom", "sizes"),
    BURY = ("bury", " flags=allow-oom", "log"),
    CONDEMN = ("condemn"),
    REVIVE = ("revive", "", "log"),
    POST_BOARD = ("post_board"),
    PUT_COMPONENT = ("put_component"),
    PUT_PART = ("put_part"),
    PRUNE_COMPONENT = ("prune_component"),
    FORGET_REPORT = ("forget_report"),
    VALUES = ("values"),
    PAGE = ("page"),
    LOCK = ("lock", " flags=allow-oom", "sizes"),
    UNLOCK = ("unlock", " flags=allow-oom", "sizes"),
    HOLDER = ("holder"),
    DUE = ("due"),
    FIRE = ("fire", "", "log", "sizes"),
    READ = ("read"),
    KEYS = ("keys"),
}
