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
    LAYOUT = ("layout"),
    JOIN_IO = ("join_io", "", "clock", "view"),
    LEAVE_IO = ("leave_io", " flags=allow-oom", "view"),
    FENCE_IO = ("fence_io", " flags=allow-oom", "outbox", "view"),
    LEAVE_APP = ("leave_app", " flags=allow-oom", "view"),
    HEARTBEAT = ("heartbeat", " flags=allow-oom", "clock", "view"),
    CLAIM = ("claim", " flags=allow-oom", "view"),
    MARK_STARTED = ("mark_started"),
    UNMARK_STARTED = ("unmark_started"),
    RETURN_LEASE = ("return_lease", " flags=allow-oom", "view"),
    INGEST = ("ingest", "", "log"),
    COMMIT = ("commit", " flags=allow-oom", "fields", "outbox", "sizes"),
    TRIM = ("trim"),
    TRIM_DEAD = ("trim_dead"),
    NOTE_READ = ("note_read", " flags=allow-oom", "outbox"),
    SEND = ("send"),
    APPLY_FORWARDED = ("apply_forwarded", " flags=allow-oom", "sizes"),
    DISCONNECT_LOST = ("disconnect_lost", " flags=allow-oom", "fields", "log", "view"),
    DEAD_LETTER = ("dead_letter"),
    RETRY_LETTER = ("retry_letter", "", "log"),
    POST_BOARD = ("post_board"),
    PUT_COMPONENT = ("put_component"),
    PUT_PART = ("put_part"),
    PRUNE_COMPONENT = ("prune_component"),
    FORGET_REPORT = ("forget_report"),
    READ_FIELDS = ("read_fields"),
    READ_PAGE = ("read_page"),
    READ_LOGS = ("read_logs"),
    LOCK_KEYS = ("lock_keys", " flags=allow-oom", "sizes"),
    UNLOCK_KEYS = ("unlock_keys", " flags=allow-oom", "sizes"),
    LOCK_STATE = ("lock_state"),
    DUE_TIMERS = ("due_timers"),
    FIRE_TIMERS = ("fire_timers", "", "log", "sizes"),
    READ_VALUES = ("read_values"),
    LIST_KEYS = ("list_keys"),
}
