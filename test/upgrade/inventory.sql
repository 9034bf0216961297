-- What the extension iotmq has brought to this database, a line for each fact, sorted: two
-- databases with the same lines have the same functions, tables, columns, comments and
-- rights, however they came to them.  The order of columns counts, numbers of objects don't.

WITH member AS (
	SELECT d.classid, d.objid
	FROM pg_depend AS d
	JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
	WHERE e.extname = 'iotmq' AND d.deptype = 'e'
), named AS (
	SELECT m.*, o.type || ' ' || o.identity AS name
	FROM member AS m, pg_identify_object(m.classid, m.objid, 0) AS o
), relation AS (
	SELECT n.name, c.* FROM named AS n JOIN pg_class AS c ON n.classid = 'pg_class'::regclass AND n.objid = c.oid
), attribute AS (
	SELECT r.name, r.relacl, row_number() OVER (PARTITION BY r.oid ORDER BY a.attnum) AS place, a.*
	FROM relation AS r JOIN pg_attribute AS a ON a.attrelid = r.oid
	WHERE a.attnum > 0 AND NOT a.attisdropped
)
SELECT line
FROM (
	SELECT name FROM named
	UNION ALL
	SELECT name || ' comment: ' || obj_description(objid, classid::regclass::name) FROM named
	UNION ALL
	SELECT n.name || ' definition: ' || pg_get_functiondef(p.oid)
	FROM named AS n JOIN pg_proc AS p ON n.classid = 'pg_proc'::regclass AND n.objid = p.oid
	WHERE p.prokind <> 'a'
	UNION ALL
	SELECT n.name || ' right: ' || a::text
	FROM named AS n JOIN pg_proc AS p ON n.classid = 'pg_proc'::regclass AND n.objid = p.oid,
		unnest(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
	UNION ALL
	SELECT n.name || ' right: ' || a::text
	FROM named AS n JOIN pg_namespace AS s ON n.classid = 'pg_namespace'::regclass AND n.objid = s.oid,
		unnest(coalesce(s.nspacl, acldefault('n', s.nspowner))) AS a
	UNION ALL
	SELECT n.name || ' right: ' || a::text
	FROM named AS n JOIN pg_type AS t ON n.classid = 'pg_type'::regclass AND n.objid = t.oid,
		unnest(coalesce(t.typacl, acldefault('T', t.typowner))) AS a
	UNION ALL
	SELECT name || ' right: ' || a::text
	FROM relation, unnest(coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's'::"char" ELSE 'r' END, relowner))) AS a
	UNION ALL
	SELECT format('%s settings: %s %s %s %s', name, relkind, relpersistence, relreplident, reloptions) FROM relation
	UNION ALL
	SELECT name || ' definition: ' || pg_get_viewdef(oid) FROM relation WHERE relkind = 'v'
	UNION ALL
	SELECT format('%s column %s: %I %s not null %s default %s storage %s compression %s right %s comment %s', a.name, a.place,
		a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid), a.attstorage,
		a.attcompression, a.attacl, col_description(a.attrelid, a.attnum))
	FROM attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
	UNION ALL
	SELECT format('%s constraint %I: %s', r.name, c.conname, pg_get_constraintdef(c.oid))
	FROM relation AS r JOIN pg_constraint AS c ON c.conrelid = r.oid
	UNION ALL
	SELECT format('%s index: %s comment %s', r.name, pg_get_indexdef(i.indexrelid), obj_description(i.indexrelid, 'pg_class'))
	FROM relation AS r JOIN pg_index AS i ON i.indrelid = r.oid
	UNION ALL
	SELECT format('%s trigger: %s %s comment %s', r.name, pg_get_triggerdef(t.oid), t.tgenabled, obj_description(t.oid, 'pg_trigger'))
	FROM relation AS r JOIN pg_trigger AS t ON t.tgrelid = r.oid AND NOT t.tgisinternal
	UNION ALL
	SELECT format('%s is dumped where %s', r.name, coalesce(nullif(c.condition, ''), 'true'))
	FROM pg_extension AS e, unnest(e.extconfig, e.extcondition) AS c (oid, condition)
	JOIN relation AS r USING (oid)
	WHERE e.extname = 'iotmq'
) AS fact (line)
WHERE line IS NOT NULL
ORDER BY line COLLATE "C";
