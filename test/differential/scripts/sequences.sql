-- A sequence never hands out a value twice, whatever happens to its page. What was handed out is remembered.
-- A plain server that crashes after a copy of a sequence's page needs a checkpoint in between; a compute takes care of that itself.
create table handed_out (name text, v bigint);
create sequence plain;
insert into handed_out select 'plain', nextval('plain') from generate_series(1, 40);
create sequence cached cache 20 increment 3;
insert into handed_out select 'cached', nextval('cached') from generate_series(1, 7);
create unlogged sequence made_logged;
select nextval('made_logged') from generate_series(1, 3);
alter sequence made_logged set logged;
\if :is_plain
checkpoint;
\endif
insert into handed_out select 'made_logged', nextval('made_logged') from generate_series(1, 3);
create unlogged table owner_table (id bigint generated always as identity, v int);
insert into owner_table (v) select generate_series(1, 3);
alter table owner_table set logged;
\if :is_plain
checkpoint;
\endif
with i as (insert into owner_table (v) values (4), (5) returning id) insert into handed_out select 'owner_table_id_seq', id from i;
create sequence was_set;
select setval('was_set', 100);
insert into handed_out select 'was_set', nextval('was_set');
create sequence changed;
select nextval('changed');
alter sequence changed increment 10;
insert into handed_out select 'changed', nextval('changed') from generate_series(1, 2);
create sequence restarted;
select nextval('restarted') from generate_series(1, 5);
alter sequence restarted restart;
insert into handed_out select 'restarted', nextval('restarted') from generate_series(1, 2);
create table emptied (id serial);
insert into emptied default values; insert into emptied default values;
truncate emptied restart identity;
with i as (insert into emptied default values returning id) insert into handed_out select 'emptied_id_seq', id from i;
create database dd_sequence_template;
\c dd_sequence_template
create sequence copied;
select nextval('copied'), nextval('copied');
\c diff
create database dd_sequence_copy template dd_sequence_template;
\if :is_plain
checkpoint;
\endif
insert into handed_out select 'copied', v from dblink('dbname=dd_sequence_copy host=' || :'HOST' || ' port=' || :'PORT' || ' user=' || current_user,
  'select nextval(''copied''), nextval(''copied'')') as d (x bigint, v bigint);
select name, max(v) from handed_out group by name order by name;
