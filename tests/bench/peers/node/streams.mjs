// Settings of the two streams between io.mjs and app.mjs: the clients' messages, and the adapter's stream for replies.

// The stream of the clients' messages.
export const INBOX = "inbox";
// Entries kept: more than ever wait, because a slow reader would silently lose trimmed entries. The adapter's default is 10,000.
export const STREAM_LENGTH = 100_000;
// Entries per read.
export const BATCH = 500;
// Batches above the default of 100, and plain JSON, are cheaper here. Nothing binary is sent.
export const ADAPTER = { readCount: BATCH, maxLen: STREAM_LENGTH, onlyPlaintext: true };
