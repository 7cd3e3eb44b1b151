-- PostGIS: its types, GiST, SP-GiST and BRIN operator classes, and its own big table of reference systems.
create extension postgis;
select extname, extversion from pg_extension where extname like 'postgis%'; select postgis_lib_version() is not null as has_version, postgis_proj_version() is not null as has_proj;
select count(*), md5(string_agg(srid || ' ' || auth_name || ' ' || srtext || ' ' || proj4text, ' ' order by srid)) from spatial_ref_sys;
create table points (id int primary key, g geometry(point, 4326), geo geography(point, 4326), k int);
insert into points select i, st_setsrid(st_makepoint(i * 37 % 3600 / 10.0 - 180, i * 91 % 1700 / 10.0 - 85), 4326), st_setsrid(st_makepoint(i * 37 % 3600 / 10.0 - 180, i * 91 % 1700 / 10.0 - 85), 4326)::geography, i % 10 from generate_series(1, 15000) i;
create index points_gist on points using gist (g); create index points_geo on points using gist (geo); create index points_spgist on points using spgist (g); create index points_brin on points using brin (g);
create table shapes (id int primary key, g geometry(geometry, 3857), name text);
create index shapes_gist on shapes using gist (g); create index shapes_nd on shapes using gist (g gist_geometry_ops_nd); 
insert into shapes select i, st_buffer(st_setsrid(st_makepoint(i * 13 % 5000, i * 29 % 5003), 3857), 5 + i % 40, 4), 'shape ' || i from generate_series(1, 6000) i;
-- Large values, out of line.
insert into shapes select 10000 + i, st_buffer(st_setsrid(st_makepoint(i * 100, i * 100), 3857), 1000, 100 + i * 10), 'large ' || i from generate_series(1, 30) i;
vacuum analyze points; vacuum analyze shapes; set enable_seqscan = off;
select count(*), sum(id) from points where g && st_makeenvelope(0, 0, 20, 20, 4326); select count(*), sum(id) from points where st_dwithin(geo, 'srid=4326;point(13.4 52.5)'::geography, 800000);
select id, round(st_distance(g, 'srid=4326;point(10 10)')::numeric, 6) from points order by g <-> 'srid=4326;point(10 10)', id limit 8;
drop index points_gist; select count(*), sum(id) from points where g && st_makeenvelope(0, 0, 20, 20, 4326); drop index points_spgist; select count(*), sum(id) from points where g && st_makeenvelope(0, 0, 20, 20, 4326); create index points_gist on points using gist (g);
select count(*), sum(a.id) from shapes a join shapes b on st_intersects(a.g, b.g) and a.id < b.id where a.id < 1000;
select k, count(*), round(st_area(st_convexhull(st_collect(g)))::numeric, 3), st_extent(g) from points group by k order by k;
select round(st_area(st_union(g))::numeric, 2), st_numgeometries(st_multi(st_union(g))) from shapes where id between 100 and 600;
select round(st_area(st_intersection(a.g, b.g))::numeric, 4) from shapes a, shapes b where a.id = 10001 and b.id = 10005;
select st_astext(st_snaptogrid(st_transform(g, 3857), 1)), st_asgeojson(g, 3), st_geohash(g, 6) from points where id in (7, 77) order by id;
select count(*), sum(st_npoints(g)) from shapes; select st_isvalid(g), st_geometrytype(g), st_srid(g) from shapes where id = 10003; select st_npoints(st_simplify(g, 50)) from shapes where id = 10003;
select cluster, count(*) from (select st_clusterdbscan(g, 30, 3) over (order by id) as cluster from shapes where id < 300) x group by 1 order by 2 desc, 1 limit 4;
select (st_dump(st_generatepoints('polygon((0 0, 0 5, 5 5, 5 0, 0 0))', 3, 42))).path; select st_astext('linestring(0 0, 1 1, 2 0)'::geometry), st_length('linestring(0 0, 3 4)'::geometry), st_astext(st_lineinterpolatepoint('linestring(0 0, 10 0)', 0.3));
insert into points values (99999, 'srid=3857;point(1 1)', null, 1); select st_geomfromtext('nonsense'); select st_intersects('srid=1;point(0 0)'::geometry, 'srid=2;point(0 0)'::geometry);
-- Changes
update shapes set g = st_translate(g, 100, 100) where id % 3 = 0; delete from shapes where id % 11 = 0; vacuum shapes;
select count(*), sum(id) from shapes where g && st_makeenvelope(500, 500, 900, 900, 3857); select id from shapes order by g <-> 'srid=3857;point(2500 2500)', id limit 5;
begin; update points set g = st_setsrid(st_makepoint(0, 0), 4326) where id % 2 = 0; select count(*) from points where g && st_makeenvelope(-1, -1, 1, 1, 4326); rollback; select count(*) from points where g && st_makeenvelope(-1, -1, 1, 1, 4326);
reindex table shapes; cluster points using points_gist; select count(*), sum(id) from points where g && st_makeenvelope(0, 0, 20, 20, 4326);
alter table shapes add column made geometry generated always as (st_envelope(g)) stored; select count(*), round(sum(st_area(made))::numeric, 2) from shapes; create materialized view hulls as select id % 10 as k, st_convexhull(st_collect(g)) as g from shapes group by 1; select k, round(st_area(g)::numeric, 2) from hulls order by k; refresh materialized view hulls;
select f_table_name, f_geometry_column, coord_dimension, srid, type from geometry_columns where f_table_schema = 'postgis' order by 1, 2;
-- Rasters and topologies
create extension postgis_raster; create table rasters (id int primary key, r raster);
insert into rasters select i, st_addband(st_makeemptyraster(50, 50, i * 50, 0, 1, -1, 0, 0, 3857), '32BF'::text, i * 1.5, -1) from generate_series(1, 40) i; create index on rasters using gist (st_convexhull(r));
update rasters set r = st_setvalue(r, 1, 10, 10, 777) where id % 4 = 0; select id, st_value(r, 1, 10, 10), (st_summarystats(r)).sum from rasters where id < 6 order by id; select count(*) from rasters where st_convexhull(r) && st_makeenvelope(100, -50, 300, 0, 3857);
create extension postgis_topology; select topology.createtopology('town', 3857) > 0 as made; select topology.st_addisonode('town', null, st_setsrid(st_makepoint(i, i), 3857)) from generate_series(1, 5) i; select topology.topogeo_addlinestring('town', 'srid=3857;linestring(0 10, 10 10, 10 0, 0 0, 0 10)'); select regexp_replace(topologysummary, 'Topology town \(id \d+', 'Topology town (id N') from topology.topologysummary('town');
