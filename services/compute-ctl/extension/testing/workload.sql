-- Statements that exercise what a storage manager does, each followed by a check that raises an error when the answer is wrong.
-- Runs on any PostgreSQL 15 in a fresh database, as a superuser; psql -v ON_ERROR_STOP=1 -f.
SET client_min_messages = warning;

CREATE FUNCTION expect(what text, actual anyelement, wanted anyelement) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF actual IS DISTINCT FROM wanted THEN
    RAISE EXCEPTION '%: found %, wanted %', what, actual, wanted;
  END IF;
END $$;

-- Index builds of all kinds, used by queries afterwards.
CREATE TABLE items (id int, v int, s text, p point, a int[]);
INSERT INTO items SELECT i, i % 1000, md5(i::text), point(i % 1000, i / 1000), ARRAY[i % 100, i % 77] FROM generate_series(1, 30000) i;
CREATE INDEX items_id ON items (id);
CREATE INDEX items_hash ON items USING hash (s);
CREATE INDEX items_gin ON items USING gin (a);
CREATE INDEX items_gist ON items USING gist (p);
CREATE INDEX items_gist_buffered ON items USING gist (p) WITH (buffering = on);
CREATE INDEX items_spgist ON items USING spgist (p);
CREATE INDEX items_brin ON items USING brin (v);
CREATE INDEX CONCURRENTLY items_concurrently ON items (v);
SET enable_seqscan = off;
SELECT expect('btree', (SELECT count(*) FROM items WHERE id BETWEEN 1000 AND 1999), 1000::bigint);
SELECT expect('hash', (SELECT id FROM items WHERE s = md5('777')), 777);
SELECT expect('gin', (SELECT count(*) FROM items WHERE a @> ARRAY[5]), (SELECT count(*) FROM items WHERE id % 100 = 5 OR id % 77 = 5));
SELECT expect('gist', (SELECT count(*) FROM items WHERE p <@ box '(10,10),(20,20)'), 121::bigint);
RESET enable_seqscan;

-- Rewrites and new files.
UPDATE items SET v = v + 1 WHERE id % 3 = 0;
SELECT expect('update', (SELECT sum(v) FROM items), 14985000::bigint + 10000);
VACUUM FULL items;
CLUSTER items USING items_id;
REINDEX TABLE CONCURRENTLY items;
SELECT expect('rewritten', (SELECT sum(v) FROM items), 14985000::bigint + 10000);

-- Truncation, by statement and by VACUUM, and growing again over what was cut off.
CREATE TABLE cut AS SELECT i AS id, repeat('x', 500) AS pad FROM generate_series(1, 20000) i;
BEGIN;
TRUNCATE cut;
INSERT INTO cut SELECT i, 'y' FROM generate_series(1, 7) i;
ROLLBACK;
SELECT expect('truncate rolled back', (SELECT count(*) FROM cut), 20000::bigint);
DELETE FROM cut WHERE id > 100;
VACUUM cut;
SELECT expect('cut off', (SELECT count(*) FROM cut), 100::bigint);
INSERT INTO cut SELECT i, repeat('z', 500) FROM generate_series(30001, 50000) i;
SELECT expect('grown again', (SELECT count(*) || ' ' || sum(id) || ' ' || min(length(pad)) FROM cut), '20100 800015050 500');
TRUNCATE cut;
SELECT expect('empty', pg_relation_size('cut'), 0::bigint);

-- Relations that are not logged.
CREATE UNLOGGED TABLE unlogged (id serial PRIMARY KEY, a int[], s text);
CREATE INDEX ON unlogged USING gin (a);
INSERT INTO unlogged (a, s) SELECT ARRAY[i], md5(i::text) FROM generate_series(1, 10000) i;
SELECT expect('unlogged', (SELECT count(DISTINCT s) FROM unlogged), 10000::bigint);
ALTER TABLE unlogged SET LOGGED;
SELECT expect('set logged', (SELECT count(*) FROM unlogged WHERE id > 0), 10000::bigint);
ALTER TABLE unlogged SET UNLOGGED;
TRUNCATE unlogged;
SELECT expect('unlogged truncated', (SELECT count(*) FROM unlogged), 0::bigint);
CREATE TEMP TABLE temporary AS SELECT * FROM items;
UPDATE temporary SET v = 0;
SELECT expect('temporary', (SELECT count(*) FROM temporary WHERE v = 0), 30000::bigint);

-- What a transaction sees of its own changes depends on command ids, which WAL does not carry.
CREATE TABLE own (a int, f text);
BEGIN;
INSERT INTO own SELECT i, repeat('x', 200) FROM generate_series(1, 30000) i;
UPDATE own SET a = a + 1;
UPDATE own SET a = a + 1;
SELECT expect('own updates', (SELECT sum(a) FROM own), 450075000::bigint);
COMMIT;
CREATE TABLE seen (a int, f text);
BEGIN;
INSERT INTO seen SELECT i, repeat('y', 300) FROM generate_series(1, 5000) i;
DECLARE before_delete CURSOR FOR SELECT * FROM seen;
DELETE FROM seen;
INSERT INTO seen SELECT -i, repeat('z', 300) FROM generate_series(1, 20000) i;
CREATE TEMP TABLE moved (n bigint);
DO $$
DECLARE n bigint := 0; row seen; c refcursor := 'before_delete';
BEGIN
  LOOP
    FETCH c INTO row;
    EXIT WHEN NOT FOUND;
    n := n + 1;
  END LOOP;
  INSERT INTO moved VALUES (n);
END $$;
SELECT expect('cursor', (SELECT n FROM moved), 5000::bigint);
COMMIT;

-- Values out of line, large objects, sequences, partitions, subtransactions.
CREATE TABLE wide (a int, b text);
ALTER TABLE wide ALTER b SET STORAGE EXTERNAL;
INSERT INTO wide SELECT i, repeat(md5(i::text), 1000) FROM generate_series(1, 100) i;
UPDATE wide SET b = b || 'x' WHERE a % 2 = 0;
SELECT expect('wide', (SELECT sum(length(b)) FROM wide), 3200050::bigint);
CREATE TABLE large AS SELECT lo_from_bytea(0, decode(repeat('ab', 500000), 'hex')) AS id;
SELECT expect('large object', (SELECT length(lo_get(id)) FROM large), 500000);
CREATE SEQUENCE numbers;
SELECT expect('sequence', (SELECT max(nextval('numbers')) FROM generate_series(1, 5000)), 5000::bigint);
CREATE TABLE parts (a int, b text) PARTITION BY HASH (a);
DO $$ BEGIN
  FOR i IN 0..15 LOOP
    EXECUTE format('CREATE TABLE parts_%s PARTITION OF parts FOR VALUES WITH (MODULUS 16, REMAINDER %s)', i, i);
  END LOOP;
END $$;
INSERT INTO parts SELECT i, md5(i::text) FROM generate_series(1, 10000) i;
SELECT expect('partitions', (SELECT count(*) FROM parts), 10000::bigint);
BEGIN;
CREATE TABLE nested (a int);
INSERT INTO nested VALUES (1);
SAVEPOINT one;
INSERT INTO nested SELECT generate_series(1, 5000);
CREATE TABLE given_up AS SELECT * FROM items;
ROLLBACK TO one;
COMMIT;
SELECT expect('subtransaction', (SELECT count(*) FROM nested), 1::bigint);
SELECT expect('given up', to_regclass('given_up') IS NULL, true);

-- Files of dropped relations, many of them.
DO $$ BEGIN
  FOR i IN 1..100 LOOP
    EXECUTE format('CREATE TABLE many_%s (a int PRIMARY KEY)', i);
    EXECUTE format('INSERT INTO many_%s SELECT generate_series(1, %s)', i, i);
  END LOOP;
END $$;
DO $$
DECLARE n bigint; total bigint := 0;
BEGIN
  FOR i IN 1..100 LOOP
    EXECUTE format('SELECT count(*) FROM many_%s WHERE a > 0', i) INTO n;
    total := total + n;
    EXECUTE format('DROP TABLE many_%s', i);
  END LOOP;
  PERFORM expect('many', total, 5050::bigint);
END $$;

-- Sizes as the storage manager tells them.
SELECT expect('total size', pg_total_relation_size('items'), pg_table_size('items') + pg_indexes_size('items'));
SELECT expect('size of a view', pg_relation_size('pg_stat_activity'), 0::bigint);
SELECT expect('size of nothing', pg_relation_size(4::oid) IS NULL, true);
