BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'collected.db','_m001_collected','2026-11-28 23:40:33.323673+00:00');
INSERT INTO "_sqlite_migrations" VALUES(2,'collected.db','_m002_collected','2026-11-28 23:40:33.324588+00:00');
INSERT INTO "_sqlite_migrations" VALUES(3,'collected.db','_m003_collected','2026-11-29 09:51:48.067175+00:00');
CREATE TABLE books (
            site TEXT NOT NULL, gateway TEXT NOT NULL, epoch TEXT NOT NULL,
            through_seq INTEGER NOT NULL, gone TEXT NOT NULL, dropped TEXT, used REAL, PRIMARY KEY (site, gateway, epoch)
        ) STRICT, WITHOUT ROWID;
INSERT INTO "books" VALUES('plant','gw-1','eeeeeeeeeeeeeeee',2,'[]',NULL,1.79590923332546925543e+09);
CREATE TABLE counters (id INTEGER PRIMARY KEY, reserved INTEGER NOT NULL) STRICT;
INSERT INTO "counters" VALUES(1,1790000009999);
CREATE TABLE messages (
            site TEXT NOT NULL, gateway TEXT NOT NULL, epoch TEXT NOT NULL, seq INTEGER NOT NULL,
            topic TEXT NOT NULL, body BLOB NOT NULL, received REAL, PRIMARY KEY (site, gateway, epoch, seq)
        ) STRICT;
INSERT INTO "messages" VALUES('plant','gw-1','eeeeeeeeeeeeeeee',1,'fieldwatch/v1/plant/gw-1/health',X'7B22736571223A317D',1.79590923332539463041e+09);
INSERT INTO "messages" VALUES('plant','gw-1','eeeeeeeeeeeeeeee',2,'fieldwatch/v1/plant/gw-1/health',X'7B22736571223A327D',1.79590923332542014116e+09);
INSERT INTO "messages" VALUES('plant','gw-1','eeeeeeeeeeeeeeee',4,'fieldwatch/v1/plant/gw-1/health',X'7B22736571223A347D',1.79590923332542705534e+09);
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
COMMIT;
PRAGMA user_version = 3;
