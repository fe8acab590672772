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

-- An event is n decisions of one version on one endpoint: the rows of one request, or single applications of several
-- requests. Row r of it is one decision. An event is an array of
--    0  ids            bytes              16 [n]: the rows' UUIDv7; or 16: that of row 0, and that of row r is greater
--                                         by r. The time of an id is when its row was scored.
--    1  request_id     string or array    n strings, or one for all rows
--    2  endpoint       string             the label in the metrics: score, batch, ndjson, invocations, open_inference
--    3  role           string or array    champion, canary, fall-back (scored because the canary did not answer) or
--                                         shadow; n strings, or one for all rows
--    4  client         string or array    as access control knows it, empty if access is open; n, or one for all rows
--    5  version        integer            versions.key
--    6  latency        integer or bytes   microseconds from the end of the request's body to the scores; int32 [n], or
--                                         one for all rows
--    7  rows           bytes or nil       int32 [n]: the rows' numbers in their requests; nil: 0 to n - 1
--    8  applicant_ids  array or nil       n strings or nil; nil: none has one
--    9  numeric        bytes              float32 [n, numeric features], in the contract's order; NaN is missing
--   10  categorical    bytes              int64 [n, categorical features]; codes as in docs/model-contract.md
--   11  probability    bytes              float32 [n]
--   12  points         bytes              int32 [n]
--   13  declined       bytes              bool [n], one byte each
--   14  reasons        array or nil       n arrays of reason codes, each nil if none were asked for; nil: for no row
-- All numbers are little-endian.
