//! Questions about tables and what hangs on them. Written for PostgreSQL 11 and newer: a column that came later is
//! read through `to_jsonb`, which gives NULL where there is none.

use crate::fingerprint::Kind;
use crate::fingerprint::schema::Question;

pub(super) const QUESTIONS: &[Question] = &[
    Question {
        kind: Kind::Table,
        properties: &[
            "kind",
            "unlogged",
            "partitioned by",
            "partition of",
            "bound",
            "inherits",
            "row security",
            "replica identity",
            "options",
            "comment",
        ],
        sql: "SELECT rel.relname, rel.name, \
                CASE rel.relkind WHEN 'p' THEN 'partitioned' WHEN 'f' THEN 'foreign' END, \
                CASE WHEN rel.relpersistence = 'u' THEN 'yes' END, \
                CASE WHEN rel.relkind = 'p' THEN pg_get_partkeydef(rel.oid) END, \
                CASE WHEN rel.relispartition THEN parents.names END, \
                pg_get_expr(rel.relpartbound, rel.oid), \
                CASE WHEN NOT rel.relispartition THEN parents.names END, \
                CASE WHEN rel.relforcerowsecurity THEN 'forced' WHEN rel.relrowsecurity THEN 'enabled' END, \
                CASE rel.relreplident WHEN 'f' THEN 'full' WHEN 'n' THEN 'nothing' WHEN 'i' THEN 'index' END, \
                (SELECT string_agg(o, ', ' ORDER BY o) FROM unnest(rel.reloptions) o), \
                obj_description(rel.oid, 'pg_class') \
              FROM rel LEFT JOIN LATERAL ( \
                SELECT string_agg(inhparent::regclass::text, ', ' ORDER BY inhseqno) AS names \
                FROM pg_inherits WHERE inhrelid = rel.oid) parents ON true \
              WHERE rel.relkind IN ('r', 'p', 'f')",
    },
    Question {
        kind: Kind::Column,
        properties: &[
            "type",
            "not null",
            "default",
            "generated",
            "identity",
            "collation",
            "comment",
        ],
        sql: "SELECT rel.relname, format('%s.%I', rel.name, a.attname), \
                format_type(a.atttypid, a.atttypmod), \
                CASE WHEN a.attnotnull THEN 'yes' END, \
                CASE WHEN g.generated IS NULL THEN pg_get_expr(d.adbin, d.adrelid) END, \
                CASE WHEN g.generated IS NOT NULL \
                     THEN pg_get_expr(d.adbin, d.adrelid) || CASE g.generated WHEN 's' THEN ' stored' ELSE ' virtual' END END, \
                CASE a.attidentity WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default' END, \
                CASE WHEN a.attcollation <> t.typcollation THEN a.collation_name END, \
                col_description(a.attrelid, a.attnum) \
              FROM rel \
              JOIN (SELECT a.*, (SELECT format('%I.%I', n.nspname, l.collname) FROM pg_collation l \
                                 JOIN pg_namespace n ON n.oid = l.collnamespace \
                                 WHERE l.oid = a.attcollation) AS collation_name \
                    FROM pg_attribute a) a ON a.attrelid = rel.oid \
              JOIN pg_type t ON t.oid = a.atttypid \
              LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
              CROSS JOIN LATERAL (SELECT nullif(to_jsonb(a)->>'attgenerated', '') AS generated) g \
              WHERE rel.relkind IN ('r', 'p', 'f') AND a.attnum > 0 AND NOT a.attisdropped",
    },
    Question {
        kind: Kind::Constraint,
        properties: &["definition", "comment"],
        // What PostgreSQL 18 records of NOT NULL stands with the column.
        sql: "SELECT rel.relname, format('%s.%I', rel.name, c.conname), pg_get_constraintdef(c.oid), \
                obj_description(c.oid, 'pg_constraint') \
              FROM rel JOIN pg_constraint c ON c.conrelid = rel.oid \
              WHERE c.contype IN ('c', 'f', 'p', 'u', 'x')",
    },
    Question {
        kind: Kind::Index,
        properties: &["definition", "valid", "clustered", "comment"],
        // An index that belongs to a constraint is told by it, but for one that is not valid.
        sql: "SELECT rel.relname, format('%I.%I', rel.nspname, ic.relname), pg_get_indexdef(i.indexrelid), \
                CASE WHEN NOT (i.indisvalid AND i.indisready) THEN 'no' END, \
                CASE WHEN i.indisclustered THEN 'yes' END, \
                obj_description(i.indexrelid, 'pg_class') \
              FROM rel JOIN pg_index i ON i.indrelid = rel.oid JOIN pg_class ic ON ic.oid = i.indexrelid \
              WHERE NOT i.indisvalid OR i.indisclustered \
                 OR NOT EXISTS (SELECT FROM pg_constraint c \
                                WHERE c.conindid = i.indexrelid AND c.contype IN ('p', 'u', 'x'))",
    },
    Question {
        kind: Kind::View,
        properties: &["definition", "options", "comment"],
        sql: "SELECT rel.relname, rel.name, pg_get_viewdef(rel.oid), \
                (SELECT string_agg(o, ', ' ORDER BY o) FROM unnest(rel.reloptions) o), \
                obj_description(rel.oid, 'pg_class') \
              FROM rel WHERE rel.relkind = 'v'",
    },
    Question {
        kind: Kind::MaterializedView,
        properties: &["definition", "options", "comment"],
        sql: "SELECT rel.relname, rel.name, pg_get_viewdef(rel.oid), \
                (SELECT string_agg(o, ', ' ORDER BY o) FROM unnest(rel.reloptions) o), \
                obj_description(rel.oid, 'pg_class') \
              FROM rel WHERE rel.relkind = 'm'",
    },
    Question {
        kind: Kind::Sequence,
        properties: &[
            "type",
            "start",
            "increment",
            "minimum",
            "maximum",
            "cache",
            "cycle",
            "owned by",
        ],
        // The next value is data: it is not asked for.
        sql: "SELECT coalesce(own.relname, rel.relname), rel.name, format_type(s.seqtypid, NULL), s.seqstart, \
                s.seqincrement, s.seqmin, s.seqmax, s.seqcache, CASE WHEN s.seqcycle THEN 'yes' END, own.column_name \
              FROM rel JOIN pg_sequence s ON s.seqrelid = rel.oid \
              LEFT JOIN LATERAL ( \
                SELECT c.relname, format('%s.%I', c.oid::regclass, a.attname) AS column_name \
                FROM pg_depend d JOIN pg_class c ON c.oid = d.refobjid \
                JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid \
                WHERE d.classid = 'pg_class'::regclass AND d.objid = rel.oid AND d.deptype IN ('a', 'i') \
                  AND d.refclassid = 'pg_class'::regclass LIMIT 1) own ON true",
    },
    Question {
        kind: Kind::Trigger,
        properties: &["definition", "enabled"],
        sql: "SELECT CASE WHEN p.proname LIKE 'lockkeeper\\_%' THEN p.proname ELSE t.tgname END, \
                format('%s.%I', rel.name, t.tgname), pg_get_triggerdef(t.oid), \
                CASE t.tgenabled WHEN 'D' THEN 'disabled' WHEN 'R' THEN 'replica' WHEN 'A' THEN 'always' END \
              FROM rel JOIN pg_trigger t ON t.tgrelid = rel.oid JOIN pg_proc p ON p.oid = t.tgfoid \
              WHERE NOT t.tgisinternal",
    },
    Question {
        kind: Kind::Policy,
        properties: &["command", "restrictive", "roles", "using", "check"],
        sql: "SELECT rel.relname, format('%s.%I', rel.name, p.polname), p.polcmd, \
                CASE WHEN NOT p.polpermissive THEN 'yes' END, \
                (SELECT string_agg(CASE r WHEN 0 THEN 'public' ELSE r::regrole::text END, ', ' ORDER BY r::regrole::text) \
                 FROM unnest(p.polroles) r), \
                pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid) \
              FROM rel JOIN pg_policy p ON p.polrelid = rel.oid",
    },
    Question {
        kind: Kind::Rule,
        properties: &["definition", "enabled"],
        sql: "SELECT rel.relname, format('%s.%I', rel.name, r.rulename), pg_get_ruledef(r.oid), \
                CASE r.ev_enabled WHEN 'D' THEN 'disabled' WHEN 'R' THEN 'replica' WHEN 'A' THEN 'always' END \
              FROM rel JOIN pg_rewrite r ON r.ev_class = rel.oid WHERE r.rulename <> '_RETURN'",
    },
    Question {
        kind: Kind::Statistics,
        properties: &["definition"],
        sql: "SELECT rel.relname, format('%I.%I', ns.nspname, s.stxname), pg_get_statisticsobjdef(s.oid) \
              FROM rel JOIN pg_statistic_ext s ON s.stxrelid = rel.oid JOIN ns ON ns.oid = s.stxnamespace",
    },
];
