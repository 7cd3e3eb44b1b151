-- Values of many types, stored and read back.
create table v (id serial primary key, j json, jb jsonb, x xml, r int4range, mr datemultirange, ts tsvector, tq tsquery, arr int[][], h bit varying, n numeric, f float4, d float8, iv interval, tz timestamptz, u uuid, ip cidr, m macaddr8, p path, l lseg, ci circle, mo money, pl pg_lsn, rc regclass, b bytea, o oidvector, s name, en "char");
insert into v (j, jb, x, r, mr, ts, tq, arr, h, n, f, d, iv, tz, u, ip, m, p, l, ci, mo, pl, rc, b, s, en) values
 ('{"a": [1, 2, {"b": null}], "a": 2}', '{"a": [1, 2, {"b": null}], "z": 1.50, "a": 3}', '<a b="c">t</a>', '[1,5)', '{[2020-01-01,2020-02-01), [2020-03-01,)}', 'fat:1A cat:2B', 'fat & (cat | !rat)',
  '[0:1][3:4]={{1,2},{3,null}}', B'10101', 1e100 + 0.1, 3.4e38, 'NaN', '1 year 2 mons 3 days 04:05:06.789', '2020-06-01 12:00+02', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '192.168.0.0/16', '08:00:2b:01:02:03:04:05',
  '[(0,0),(1,1),(2,0)]', '[(0,0),(1,1)]', '<(1,2),3>', '$1,234.56', '16/B374D848', 'pg_class', '\xdeadbeef00', 'a name', 'x'),
 (null, 'null', null, 'empty', '{}', '', '', '{}', B'', 'NaN', '-Infinity', '1e-300', '-1 day', 'infinity', null, null, null, null, null, null, null, '0/0', null, '', '', '');
select * from v order by id;
insert into v (jb, n, d, ts, arr, b) select jsonb_build_object('i', i, 's', repeat('x', i % 50), 'a', array[i, i + 1]), i ^ 3.5, sqrt(i), to_tsvector('simple', 'word' || i % 10 || ' other' || i), array[[i, i], [i, 0]], int8send(i) from generate_series(1, 3000) i;
update v set jb = jsonb_set(jb, '{a, 0}', '"set"') || '{"new": true}' where id % 10 = 0;
update v set arr[2][1] = -1, b = b || '\xff' where id % 7 = 3;
select count(*), sum((jb ->> 'i')::int), count(*) filter (where jb @> '{"new": true}'), sum(length(b)), sum(arr[2][1]) from v;
select md5(string_agg(v::text, E'\n' order by id)) from v;
select jsonb_path_query_array(jb, '$.a[*] ? (@.type() == "number")') from v where id = 12;
select jsonb_pretty(jb - 's') from v where id = 22;
select * from jsonb_to_recordset('[{"a": 1, "b": "x"}, {"a": 2}]') as r (a int, b text);
select * from json_each_text('{"k": "v", "n": null}');
select row_to_json(x), to_jsonb(x) from (select 1 as a, array[1, 2] as b, '2020-01-01'::date as c) x;
select array_agg(x order by x), array_length(array_cat('{1,2}', '{3}'), 1), array_position('{a,b}', 'b'), '{1,2,3}'::int[] && '{3}', array_remove('{1,null,1}', 1), string_to_array('a,b,,c', ',', ''), unnest('{a,b}'::text[]) from (values (3), (1)) t (x);
select range_agg(r) from (values (int4range(1, 3)), (int4range(2, 5)), (int4range(9, 10))) t (r);
select '{[1,3),[5,7)}'::int4multirange @> 6, lower('[1,3]'::numrange), int8range(1, 5) -|- int8range(5, 6), '[2020-01-01,2020-01-05]'::daterange * '[2020-01-04,)';
select ts_rank(to_tsvector('english', 'The quick brown foxes jumped'), to_tsquery('english', 'fox & jump')), ts_headline('english', 'The quick brown foxes', 'fox'::tsquery), phraseto_tsquery('english', 'quick foxes'), setweight('a:1'::tsvector, 'A') || 'b:1'::tsvector;
select format('%s %I %L %10s|%-5s|', 'a', 'B c', 'it''s', 'r', 'l'), regexp_replace('abc123', '(\d)', '<\1>', 'g'), regexp_matches('foobar', '(o+)(b)'), regexp_count('aXbXc', 'X'), translate('abc', 'ac', 'xz'), overlay('abcdef' placing 'ZZ' from 3), split_part('a.b.c', '.', -1), to_char(1234567.891, 'FM9,999,999.00'), to_char('2020-02-29'::date, 'Day DD Month YYYY IW'), to_number('1,234', '9,999');
select date_trunc('week', '2020-02-29'::timestamp), age('2020-02-29', '2019-01-31'), extract(epoch from '2020-01-01'::timestamptz), '2020-01-31'::date + interval '1 month', make_interval(days => 3), justify_interval('40 days 30 hours'), date_bin('15 min', '2020-01-01 10:44'::timestamp, '2020-01-01'), '2020-03-29 01:30'::timestamp at time zone 'Europe/Berlin', timezone('America/New_York', '2020-07-01 00:00+00'::timestamptz);
select 7 / 2, -7 / 2, 7 % -3, 2 ^ 10, |/ 16, 5 & 3, 5 # 3, 1 << 10, div(-7.0, 2), round(2.5), round(-2.5::numeric), width_bucket(5, 0, 10, 5), gcd(12, 18), 0.1 + 0.2, 0.1::float8 + 0.2, 10 ^ 40, factorial(20);
select 1e400::float8;
select sha256('x'), encode('\x0001ff', 'base64'), encode('\x0001ff', 'escape'), get_byte('\x0102', 1), convert_from('\xc3a9', 'UTF8'), length('é'), octet_length('é'), upper('straße'), initcap('ab cd'), 'a' || E'\tb', U&'\0041', chr(8364), ascii('€'), normalize(U&'e\0301'), quote_nullable(null);
select '1'::int + '2', '5'::text || 1, null is distinct from 1, coalesce(null, 2), nullif(1, 1), greatest(1, null, 3), case when true then 'x' end, row(1, 2) < row(1, 3), (1, null) is null, 1 between symmetric 2 and 0, 'abc' similar to 'a%', 'abc' ~* 'B', 'a' < 'B', 'a' < 'B' collate "C";
select xmlelement(name a, xmlattributes(1 as b), 'c'), xpath('/a/text()', '<a>1</a>'), xml_is_well_formed('<a>');
select 2147483647 + 1;
select 'x'::int;
select '2020-02-30'::date;
select 1 / 0;
select '{1,2'::int[];
select '{"a":'::jsonb;
select nosuch(1);
select * from nosuch;
select 1 +;
