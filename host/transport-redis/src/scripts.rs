//! The Lua scripts. The header of each file names its keys, arguments, answers, invariant and cost, and says why a late copy is
//! harmless: a copy of a call that a slow connection delivers long after the call was answered.

use crate::client::script::Script;

/// The code of a script: its file. A script that uses files of `shared` has them in front, and its flags here.
macro_rules! code {
    ($file:literal) => {
        include_str!(concat!("lua/", $file, ".lua"))
    };
    ($file:literal, $flags:literal, $($shared:literal),+) => {
        concat!(
            "#!lua", $flags, "\n",
            $(include_str!(concat!("lua/shared/", $shared, ".lua")),)+
            include_str!(concat!("lua/", $file, ".lua")),
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
