BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'fieldwatch.db','_m001_records','2026-11-29 09:55:34.862049+00:00');
INSERT INTO "_sqlite_migrations" VALUES(2,'fieldwatch.db','_m002_records','2026-11-29 09:55:34.864009+00:00');
INSERT INTO "_sqlite_migrations" VALUES(3,'fieldwatch.db','_m003_records','2026-11-29 21:09:38.235422+00:00');
INSERT INTO "_sqlite_migrations" VALUES(4,'fieldwatch.db','_m004_records','2026-11-30 08:41:01.890875+00:00');
INSERT INTO "_sqlite_migrations" VALUES(5,'fieldwatch.db','_m005_records','2026-11-30 09:04:34.260009+00:00');
INSERT INTO "_sqlite_migrations" VALUES(6,'fieldwatch.db','_m006_records','2026-11-30 12:01:31.917363+00:00');
CREATE TABLE alarms (
            id INTEGER PRIMARY KEY, stream TEXT NOT NULL, number INTEGER NOT NULL,
            state TEXT NOT NULL, document TEXT NOT NULL, UNIQUE (stream, number)
        ) STRICT;
INSERT INTO "alarms" VALUES(1,'pump',1,'closed','{"stream": "pump", "number": 1, "state": "closed", "kind": "anomaly"}');
INSERT INTO "alarms" VALUES(2,'pump',2,'closed','{"stream": "pump", "number": 2, "state": "closed", "kind": "anomaly"}');
INSERT INTO "alarms" VALUES(3,'pump',3,'opened','{"stream": "pump", "number": 3, "state": "opened", "kind": "anomaly"}');
CREATE TABLE logbook (
            id INTEGER PRIMARY KEY, stream TEXT NOT NULL, point TEXT NOT NULL,
            number INTEGER NOT NULL, revision INTEGER NOT NULL, at REAL NOT NULL,
            what TEXT NOT NULL, document TEXT NOT NULL
        ) STRICT;
INSERT INTO "logbook" VALUES(1,'pump','anomaly',3,1,1700000030.0,'raised','{"stream": "pump", "point": "anomaly", "number": 3, "revision": 1, "at": "2023-11-14T22:13:50.000Z", "what": "raised", "before": "NORM", "after": "UNACK", "condition": "active", "severity": "medium", "consequence": "major", "priority": "medium", "by": "agent", "door": "agent", "why": null, "until": null, "until_clear": false, "shelvings": 0, "label": null, "clock": "synced"}');
INSERT INTO "logbook" VALUES(2,'pump','anomaly',3,2,1700000060.0,'acknowledged','{"stream": "pump", "point": "anomaly", "number": 3, "revision": 2, "at": "2023-11-14T22:14:20.000Z", "what": "acknowledged", "before": "UNACK", "after": "ACKED", "condition": "active", "severity": "medium", "consequence": "major", "priority": "medium", "by": "maria", "door": "terminal", "why": "strainer is blocked", "until": null, "until_clear": false, "shelvings": 0, "label": null, "clock": "synced"}');
CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;
INSERT INTO "meta" VALUES('epoch','c0f5ce8f9c431f41');
INSERT INTO "meta" VALUES('last_alarm/pump',3);
INSERT INTO "meta" VALUES('last_seq',6);
CREATE TABLE notices (
            id INTEGER PRIMARY KEY AUTOINCREMENT, hook TEXT NOT NULL, notice TEXT NOT NULL,
            at REAL NOT NULL, clock TEXT NOT NULL, document BLOB NOT NULL
        ) STRICT;
INSERT INTO "notices" VALUES(1,'pager','a0',1700000000.0,'synced',X'7B22666F726D223A317D');
CREATE TABLE orders (
            number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, expires REAL NOT NULL,
            digest TEXT NOT NULL, answer TEXT NOT NULL
        ) STRICT;
INSERT INTO "orders" VALUES(1,'0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f',1700000600.0,'abababababababababababababababababababababababababababababababab','{"ok": true, "result": {}}');
CREATE TABLE outbox (
            seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, stream TEXT, time TEXT NOT NULL,
            clock TEXT NOT NULL, bundle TEXT, detector TEXT, data BLOB NOT NULL
        ) STRICT;
INSERT INTO "outbox" VALUES(3,'alarm','pump','2023-11-14T22:13:30.000Z','synced','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','telemanom',X'7B2273747265616D223A2270756D70222C226E756D626572223A322C227374617465223A22636C6F736564222C226B696E64223A22616E6F6D616C79227D');
INSERT INTO "outbox" VALUES(4,'health',NULL,'2023-11-14T22:13:30.123Z','synced',NULL,NULL,X'7B226E223A322C226E616D65223A225C7530306235227D');
INSERT INTO "outbox" VALUES(5,'alarm','pump','2023-11-14T22:13:35.000Z','synced','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','telemanom',X'7B2273747265616D223A2270756D70222C226E756D626572223A332C227374617465223A226F70656E6564222C226B696E64223A22616E6F6D616C79227D');
INSERT INTO "outbox" VALUES(6,'summary','pump','2023-11-14T22:13:35.123Z','synced','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','telemanom',X'7B226E223A332C226E616D65223A225C7530306235227D');
CREATE TABLE points (
            id INTEGER PRIMARY KEY, stream TEXT NOT NULL, point TEXT NOT NULL,
            document TEXT NOT NULL, UNIQUE (stream, point)
        ) STRICT;
INSERT INTO "points" VALUES(1,'pump','anomaly','{"condition": "active", "acknowledged": true, "latched": false, "shelving": null, "suppressed": false, "out_of_service": false, "severity": "medium", "consequence": "major", "priority": "medium", "number": 3, "open": [3], "raised": 1, "shelvings": 0, "shelved_s": 0.0, "revision": 2}');
CREATE TABLE state (
            stream TEXT NOT NULL, part TEXT NOT NULL, data BLOB NOT NULL,
            PRIMARY KEY (stream, part)
        ) STRICT, WITHOUT ROWID;
INSERT INTO "state" VALUES('pump','head',X'686561642033');
INSERT INTO "state" VALUES('pump','through',X'3136');
CREATE TABLE windows (
            id INTEGER PRIMARY KEY, stream TEXT NOT NULL, number INTEGER NOT NULL,
            last INTEGER NOT NULL, labelled INTEGER NOT NULL, to_come INTEGER NOT NULL,
            channels TEXT NOT NULL, times BLOB NOT NULL, data BLOB NOT NULL,
            UNIQUE (stream, number)
        ) STRICT;
INSERT INTO "windows" VALUES(1,'pump',1,2,1,0,'["flow", "pressure"]',X'785E6360C0011C1A0E3040B103103802811310FC41022148E0261200A98501000C352485',X'785E6360C0011A18101049898787A7A79797B7B78F8FAF2FB24E2724E0800470198F4BDC0B091C4002C8E6D723019CCE6F40003B3080380A593D1312000057FA2B27');
INSERT INTO "windows" VALUES(2,'pump',3,3,0,5,'["flow", "pressure"]',X'785E6360C0011C1A0E3040B103103802811310FC41022148E0261200A98501000C352485',X'785E6360C0011A18101049898787A7A79797B7B78F8FAF2FB24E2724E0800470198F4BDC0B091C4002C8E6D723019CCE6F40003B3080380A593D1312000057FA2B27');
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE INDEX alarms_open ON alarms (id) WHERE state = 'opened';
CREATE INDEX outbox_kind ON outbox (kind, seq, stream);
CREATE INDEX logbook_point ON logbook (stream, point, revision);
CREATE INDEX notices_hook ON notices (hook, id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('notices',1);
COMMIT;
PRAGMA user_version = 6;
