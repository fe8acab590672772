-- One segment of a pod's decision log: a SQLite file named segment-<number, 8 digits>.sqlite, in the folder of the log.
--
-- The scoring service writes it in WAL mode with synchronous = FULL and begins another one when it is full. The shipper
-- reads it from another process and deletes the file once all of it is in Postgres and it is complete: a later segment
-- exists, or nobody holds the lock (flock) on the folder's file `lock`, which the writer holds for its whole life.
PRAGMA application_id = 1129464908;  -- "CRDL"
PRAGMA user_version = 1;

-- One row. A log is what one process of the service writes; its id is a UUID, as 16 bytes.
CREATE TABLE log (id BLOB NOT NULL CHECK (length(id) = 16), pod TEXT NOT NULL) STRICT;

-- The model versions that the segment's events name by key.
CREATE TABLE versions (
    key INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    digests TEXT NOT NULL,      -- JSON: the SHA-256 of each file, by its name
    contract BLOB NOT NULL      -- contract.json, byte for byte
) STRICT;

-- What was made durable together. Numbers begin with 1 and go on from segment to segment of a log, without a gap.
CREATE TABLE groups (
    number INTEGER PRIMARY KEY,
    seed BLOB NOT NULL CHECK (length(seed) = 16),  -- random; the salt of a decision is the start of SHA-256(seed, id)
    decisions INTEGER NOT NULL,                    -- how many are in it
    events BLOB NOT NULL                           -- MessagePack: an array of events
) STRICT;

-- An event is one request that was scored, with n decisions. It is an array of
--    0  first_id       bytes, 16          UUIDv7 of row 0; that of row r is greater by r. Its time is when the rows were scored.
--    1  request_id     string
--    2  endpoint       string             the label in the metrics: score, batch, ndjson, invocations, open_inference
--    3  role           string             champion, canary, fall-back (scored because the canary did not answer) or shadow
--    4  client         string             as access control knows it; empty if access is open
--    5  version        integer            versions.key
--    6  latency        integer            microseconds from the end of the request's body to the scores
--    7  rows           bytes or nil       int32 [n]: the rows' numbers in the request; nil: 0 to n - 1
--    8  applicant_ids  array or nil       n strings or nil; nil: none has one
--    9  numeric        bytes              float32 [n, numeric features], in the contract's order; NaN is missing
--   10  categorical    bytes              int64 [n, categorical features]; codes as in docs/model-contract.md
--   11  probability    bytes              float32 [n]
--   12  points         bytes              int32 [n]
--   13  declined       bytes              bool [n], one byte each
--   14  reasons        array or nil       reason codes, if the request asked for them; only where n is 1
-- All numbers are little-endian.
