-- Partition sets that pg_partman makes and keeps.
create extension pg_partman;
create table by_id (id bigint not null, v text) partition by range (id);
select create_parent('partman.by_id', 'id', 'native', '1000', p_premake => 3, p_start_partition => '0');
insert into by_id select i, 'v' || i from generate_series(0, 3999) i; insert into by_id values (50000, 'default');
select tableoid::regclass, count(*), min(id), max(id) from by_id group by 1 order by 1;
select run_maintenance('partman.by_id', p_analyze => false); insert into by_id select i, 'w' || i from generate_series(4000, 6500) i;
select run_maintenance('partman.by_id', p_analyze => false); select partition_tablename from show_partitions('partman.by_id') order by 1;
select check_default(p_exact_count => true); delete from by_id where id = 50000;
create table by_day (at timestamptz not null, n int) partition by range (at);
select create_parent('partman.by_day', 'at', 'native', 'monthly', p_premake => 1, p_start_partition => '2020-01-01');
insert into by_day select '2020-01-01'::timestamptz + i * interval '1 day', i from generate_series(0, 500) i;
select tableoid::regclass, count(*), sum(n) from by_day group by 1 order by 1;
create table later_by_id (id bigint primary key, v text); insert into later_by_id select i, 'x' || i from generate_series(1, 5000) i;
-- An ordinary table's rows move into partitions, one batch after the other.
alter table later_by_id rename to old_by_id; create table later_by_id (like old_by_id including all) partition by range (id);
select create_parent('partman.later_by_id', 'id', 'native', '1000', p_start_partition => '0', p_premake => 2);
call partition_data_proc('partman.later_by_id', p_source_table => 'partman.old_by_id', p_batch => 20, p_wait => 0, p_quiet => true);
select count(*) from old_by_id; select tableoid::regclass, count(*) from later_by_id group by 1 order by 1; vacuum old_by_id;
-- Retention drops the oldest; undo brings the rest back into one table.
update part_config set retention = '3000', retention_keep_table = false where parent_table = 'partman.by_id';
select run_maintenance('partman.by_id', p_analyze => false); select partition_tablename from show_partitions('partman.by_id') order by 1; select count(*), sum(id) from by_id;
create table undone (like by_id); select partitions_undone >= 0 as has_undone, rows_undone from undo_partition('partman.by_id', p_target_table => 'partman.undone', p_batch_count => 100, p_keep_table => false); select count(*), sum(id) from undone;
select parent_table, control, partition_type, partition_interval, premake from part_config order by 1; select partition_gap_fill('partman.later_by_id');
