// The two streams between io.mjs and app.mjs: messages of clients one way, the adapter's the other.

// Where messages of clients go.
export const INBOX = "inbox";
// Entries kept: more than ever wait, or a slow reader would lose some without a word. The adapter's default is 10,000.
export const STREAM_LENGTH = 100_000;
// Entries read at once.
export const BATCH = 500;
// Batches beyond the default of 100 and plain JSON are cheaper here; nothing binary is sent.
export const ADAPTER = { readCount: BATCH, maxLen: STREAM_LENGTH, onlyPlaintext: true };
