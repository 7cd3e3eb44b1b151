select name, nextval(name::regclass) > max(v) as is_new from handed_out where name <> 'copied' group by name order by name;
select d.v > (select max(v) from handed_out where name = 'copied') as is_new
  from dblink('dbname=dd_sequence_copy host=' || :'HOST' || ' port=' || :'PORT' || ' user=' || current_user, 'select nextval(''copied'')') as d (v bigint);
insert into emptied default values;
insert into owner_table (v) values (6);
select count(distinct id) = count(*) from owner_table;
delete from owner_table where v = 6;
truncate emptied;
