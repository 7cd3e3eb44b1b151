select sum(length(ext)), md5(string_agg(ext || coalesce(exn, '') || mn, '' order by id)) from tt;
select sum(length(a)), sum(length(b)), sum(jsonb_array_length(j)), md5(string_agg(a || b || j, '' order by id)) from lz;
select sum(length(a)), md5(string_agg(a, '' order by id, a)) from lz2;
select sum(length(arr[1])), sum(length(arr[2])), sum(length(j ->> 'big')), md5(string_agg(j::text, '' order by id)) from c;
select md5(lo_get(424243)), length(lo_get(424243));
update tt set exn = exn || 'after' where id % 7 = 0;
delete from tt where id % 11 = 0;
vacuum tt;
select sum(length(exn)), md5(string_agg(exn, '' order by id)) from tt;
