-- The database of version 0.1.0: its tables, and a few rows.

CREATE TABLE boxes (
    serial TEXT NOT NULL,
    enrolled_at_ms BIGINT NOT NULL,
    dismissed_at_ms BIGINT,
    PRIMARY KEY (serial)
);

CREATE TABLE commands (
    id BIGSERIAL NOT NULL,
    box TEXT NOT NULL,
    instrument TEXT NOT NULL,
    verb TEXT NOT NULL,
    body BYTEA NOT NULL,
    created_at_ms BIGINT NOT NULL,
    delivered_count INTEGER NOT NULL,
    due_at_ms BIGINT NOT NULL,
    outcome TEXT,
    closed_at_ms BIGINT,
    PRIMARY KEY (id),
    FOREIGN KEY(box) REFERENCES boxes (serial)
);

CREATE INDEX commands_waiting ON commands (box, outcome, due_at_ms);

CREATE TABLE records (
    box TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    instrument TEXT NOT NULL,
    run BIGINT NOT NULL,
    number BIGINT,
    kind TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    stored_at_ms BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (box, epoch, sequence),
    UNIQUE (box, instrument, run, number),
    FOREIGN KEY(box) REFERENCES boxes (serial)
);

INSERT INTO boxes (serial, enrolled_at_ms, dismissed_at_ms) VALUES ('RAP-0001', 1000, NULL), ('RAP-0002', 1000, 2000);
INSERT INTO records (box, epoch, sequence, instrument, run, number, kind, at_ms, stored_at_ms, body)
    VALUES ('RAP-0001', 1, 1, 'CHEM-0001', 7, 1, 'alert', 5000, 5001, '\x97a5616c65727401cd1388a55430313031a462617468a77761726e696e67cd940c'),
           ('RAP-0001', 1, 2, '', 0, NULL, 'audit', 5002, 5003, '\x95a56175646974cd138aa7737461727465640000');
INSERT INTO commands (id, box, instrument, verb, body, created_at_ms, delivered_count, due_at_ms, outcome, closed_at_ms)
    VALUES (1, 'RAP-0001', 'CHEM-0001', 'help-file', '\x74657874', 6000, 1, 6000, NULL, NULL);
