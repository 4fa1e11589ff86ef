//! Questions about what no table holds: schemas, extensions, types, functions, event triggers.

use crate::fingerprint::Kind;
use crate::fingerprint::schema::Question;

pub(super) const QUESTIONS: &[Question] = &[
    Question {
        kind: Kind::Schema,
        properties: &["comment"],
        // The comment on `public` came and went with releases.
        sql: "SELECT ns.nspname, format('%I', ns.nspname), \
                CASE WHEN ns.nspname <> 'public' THEN obj_description(ns.oid, 'pg_namespace') END \
              FROM ns \
              WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_namespace'::regclass AND m.objid = ns.oid)",
    },
    Question {
        kind: Kind::Extension,
        properties: &["schema"],
        // Its release is the server's packages' affair.
        sql: "SELECT e.extname, format('%I', e.extname), n.nspname \
              FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace",
    },
    Question {
        kind: Kind::Type,
        properties: &[
            "kind",
            "labels",
            "attributes",
            "base",
            "not null",
            "default",
            "constraints",
            "comment",
        ],
        sql: "SELECT t.typname, format('%I.%I', ns.nspname, t.typname), \
                CASE t.typtype WHEN 'e' THEN 'enum' WHEN 'd' THEN 'domain' WHEN 'c' THEN 'composite' \
                               WHEN 'r' THEN 'range' ELSE 'base' END, \
                (SELECT string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder) \
                 FROM pg_enum WHERE enumtypid = t.oid), \
                (SELECT string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY a.attnum) \
                 FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped), \
                CASE t.typtype WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod) \
                     WHEN 'r' THEN (SELECT format_type(rngsubtype, NULL) FROM pg_range WHERE rngtypid = t.oid) END, \
                CASE WHEN t.typnotnull THEN 'yes' END, \
                t.typdefault, \
                (SELECT string_agg(format('%I %s', c.conname, pg_get_constraintdef(c.oid)), '; ' ORDER BY c.conname) \
                 FROM pg_constraint c WHERE c.contypid = t.oid AND c.contype = 'c'), \
                obj_description(t.oid, 'pg_type') \
              FROM pg_type t JOIN ns ON ns.oid = t.typnamespace \
              LEFT JOIN pg_class c ON c.oid = t.typrelid \
              WHERE t.typtype IN ('b', 'c', 'd', 'e', 'r') \
                AND (t.typrelid = 0 OR c.relkind = 'c') \
                AND NOT EXISTS (SELECT FROM pg_type item WHERE item.typarray = t.oid) \
                AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_type'::regclass AND m.objid = t.oid)",
    },
    Question {
        kind: Kind::Function,
        properties: &["definition", "aggregate", "comment"],
        sql: "SELECT p.proname, \
                format('%I.%I(%s)', ns.nspname, p.proname, pg_get_function_identity_arguments(p.oid)), \
                CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid) END, \
                (SELECT format('state %s %s, final %s, initial %s', a.aggtransfn, format_type(a.aggtranstype, NULL), \
                               a.aggfinalfn, coalesce(quote_literal(a.agginitval), 'none')) \
                 FROM pg_aggregate a WHERE a.aggfnoid = p.oid), \
                obj_description(p.oid, 'pg_proc') \
              FROM pg_proc p JOIN ns ON ns.oid = p.pronamespace \
              WHERE p.prokind <> 'p' \
                AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_proc'::regclass AND m.objid = p.oid)",
    },
    Question {
        kind: Kind::Procedure,
        properties: &["definition", "comment"],
        sql: "SELECT p.proname, \
                format('%I.%I(%s)', ns.nspname, p.proname, pg_get_function_identity_arguments(p.oid)), \
                pg_get_functiondef(p.oid), obj_description(p.oid, 'pg_proc') \
              FROM pg_proc p JOIN ns ON ns.oid = p.pronamespace \
              WHERE p.prokind = 'p' \
                AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_proc'::regclass AND m.objid = p.oid)",
    },
    Question {
        kind: Kind::EventTrigger,
        properties: &["event", "function", "tags", "enabled"],
        sql: "SELECT e.evtname, format('%I', e.evtname), e.evtevent, e.evtfoid::regprocedure, \
                (SELECT string_agg(t, ', ' ORDER BY t) FROM unnest(e.evttags) t), \
                CASE e.evtenabled WHEN 'D' THEN 'disabled' WHEN 'R' THEN 'replica' WHEN 'A' THEN 'always' END \
              FROM pg_event_trigger e \
              WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_event_trigger'::regclass AND m.objid = e.oid)",
    },
];
