//! What is asked. `{db}` stands for the database's name.

use crate::db::mysql::target::Facts;
use crate::fingerprint::Kind;
use crate::fingerprint::schema::Question;

/// Questions that both products answer.
pub(super) const fn common() -> &'static [Question] {
    &[
        Question {
            kind: Kind::Database,
            properties: &["character set", "collation"],
            sql: "SELECT '', 'default', DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME \
                  FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {db}",
        },
        Question {
            kind: Kind::Table,
            properties: &["engine", "collation", "options", "versioned", "comment"],
            sql: "SELECT TABLE_NAME, TABLE_NAME, ENGINE, TABLE_COLLATION, NULLIF(CREATE_OPTIONS, ''), \
                    IF(TABLE_TYPE = 'SYSTEM VERSIONED', 'yes', NULL), NULLIF(TABLE_COMMENT, '') \
                  FROM information_schema.TABLES \
                  WHERE TABLE_SCHEMA = {db} AND TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')",
        },
        Question {
            kind: Kind::Column,
            properties: &[
                "type",
                "not null",
                "default",
                "extra",
                "generated",
                "collation",
                "comment",
            ],
            sql: "SELECT c.TABLE_NAME, CONCAT(c.TABLE_NAME, '.', c.COLUMN_NAME), c.COLUMN_TYPE, \
                    IF(c.IS_NULLABLE = 'NO', 'yes', NULL), c.COLUMN_DEFAULT, NULLIF(c.EXTRA, ''), \
                    NULLIF(c.GENERATION_EXPRESSION, ''), c.COLLATION_NAME, NULLIF(c.COLUMN_COMMENT, '') \
                  FROM information_schema.COLUMNS c \
                  JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = c.TABLE_SCHEMA AND t.TABLE_NAME = c.TABLE_NAME \
                  WHERE c.TABLE_SCHEMA = {db} AND t.TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')",
        },
        Question {
            kind: Kind::Constraint,
            properties: &["definition"],
            sql: "SELECT k.TABLE_NAME, k.CONSTRAINT_NAME, CONCAT('foreign key (', \
                    GROUP_CONCAT(k.COLUMN_NAME ORDER BY k.ORDINAL_POSITION SEPARATOR ', '), ') references ', \
                    IF(MAX(k.REFERENCED_TABLE_SCHEMA) = {db}, '', CONCAT(MAX(k.REFERENCED_TABLE_SCHEMA), '.')), \
                    MAX(k.REFERENCED_TABLE_NAME), ' (', \
                    GROUP_CONCAT(k.REFERENCED_COLUMN_NAME ORDER BY k.ORDINAL_POSITION SEPARATOR ', '), ')', \
                    ' on update ', LOWER(MAX(r.UPDATE_RULE)), ' on delete ', LOWER(MAX(r.DELETE_RULE))) \
                  FROM information_schema.KEY_COLUMN_USAGE k \
                  JOIN information_schema.REFERENTIAL_CONSTRAINTS r \
                    ON r.CONSTRAINT_SCHEMA = k.CONSTRAINT_SCHEMA AND r.CONSTRAINT_NAME = k.CONSTRAINT_NAME \
                   AND r.TABLE_NAME = k.TABLE_NAME \
                  WHERE k.TABLE_SCHEMA = {db} AND k.REFERENCED_TABLE_NAME IS NOT NULL \
                  GROUP BY k.TABLE_NAME, k.CONSTRAINT_NAME",
        },
        Question {
            kind: Kind::Partition,
            properties: &[
                "method",
                "expression",
                "description",
                "sub-method",
                "sub-expression",
            ],
            sql: "SELECT TABLE_NAME, CONCAT_WS('.', TABLE_NAME, PARTITION_NAME, SUBPARTITION_NAME), PARTITION_METHOD, \
                    PARTITION_EXPRESSION, PARTITION_DESCRIPTION, SUBPARTITION_METHOD, SUBPARTITION_EXPRESSION \
                  FROM information_schema.PARTITIONS WHERE TABLE_SCHEMA = {db} AND PARTITION_NAME IS NOT NULL",
        },
        Question {
            kind: Kind::View,
            properties: &["definition", "check option", "security"],
            sql: "SELECT TABLE_NAME, TABLE_NAME, VIEW_DEFINITION, CHECK_OPTION, SECURITY_TYPE \
                  FROM information_schema.VIEWS WHERE TABLE_SCHEMA = {db}",
        },
        Question {
            kind: Kind::Function,
            properties: &[
                "definition",
                "parameters",
                "returns",
                "deterministic",
                "data access",
                "security",
                "comment",
            ],
            sql: "SELECT r.ROUTINE_NAME, r.ROUTINE_NAME, r.ROUTINE_DEFINITION, \
                    (SELECT GROUP_CONCAT(CONCAT_WS(' ', p.PARAMETER_NAME, p.DTD_IDENTIFIER, p.COLLATION_NAME) \
                            ORDER BY p.ORDINAL_POSITION SEPARATOR ', ') \
                     FROM information_schema.PARAMETERS p WHERE p.SPECIFIC_SCHEMA = r.ROUTINE_SCHEMA \
                       AND p.SPECIFIC_NAME = r.SPECIFIC_NAME AND p.ROUTINE_TYPE = 'FUNCTION' AND p.ORDINAL_POSITION > 0), \
                    r.DTD_IDENTIFIER, r.IS_DETERMINISTIC, r.SQL_DATA_ACCESS, r.SECURITY_TYPE, \
                    NULLIF(CAST(r.ROUTINE_COMMENT AS CHAR), '') \
                  FROM information_schema.ROUTINES r \
                  WHERE r.ROUTINE_SCHEMA = {db} AND r.ROUTINE_TYPE = 'FUNCTION'",
        },
        Question {
            kind: Kind::Procedure,
            properties: &[
                "definition",
                "parameters",
                "deterministic",
                "data access",
                "security",
                "comment",
            ],
            sql: "SELECT r.ROUTINE_NAME, r.ROUTINE_NAME, r.ROUTINE_DEFINITION, \
                    (SELECT GROUP_CONCAT(CONCAT_WS(' ', p.PARAMETER_MODE, p.PARAMETER_NAME, p.DTD_IDENTIFIER, \
                                                   p.COLLATION_NAME) \
                            ORDER BY p.ORDINAL_POSITION SEPARATOR ', ') \
                     FROM information_schema.PARAMETERS p WHERE p.SPECIFIC_SCHEMA = r.ROUTINE_SCHEMA \
                       AND p.SPECIFIC_NAME = r.SPECIFIC_NAME AND p.ROUTINE_TYPE = 'PROCEDURE'), \
                    r.IS_DETERMINISTIC, r.SQL_DATA_ACCESS, r.SECURITY_TYPE, \
                    NULLIF(CAST(r.ROUTINE_COMMENT AS CHAR), '') \
                  FROM information_schema.ROUTINES r \
                  WHERE r.ROUTINE_SCHEMA = {db} AND r.ROUTINE_TYPE = 'PROCEDURE'",
        },
        Question {
            kind: Kind::Trigger,
            properties: &["timing", "event", "action"],
            // Their order among each other is left out: a barrier's triggers come before them and go again.
            sql: "SELECT TRIGGER_NAME, CONCAT(EVENT_OBJECT_TABLE, '.', TRIGGER_NAME), ACTION_TIMING, \
                    EVENT_MANIPULATION, ACTION_STATEMENT \
                  FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = {db}",
        },
        Question {
            kind: Kind::Event,
            properties: &[
                "type",
                "at",
                "every",
                "starts",
                "ends",
                "status",
                "on completion",
                "action",
            ],
            sql: "SELECT EVENT_NAME, EVENT_NAME, EVENT_TYPE, EXECUTE_AT, CONCAT_WS(' ', INTERVAL_VALUE, INTERVAL_FIELD), \
                    STARTS, ENDS, STATUS, ON_COMPLETION, EVENT_DEFINITION \
                  FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {db}",
        },
    ]
}

/// Questions that the products answer each in their own way.
pub(super) const fn of(facts: &Facts) -> &'static [Question] {
    const MARIADB: &[Question] = &[Question {
        kind: Kind::Constraint,
        properties: &["definition"],
        sql: "SELECT TABLE_NAME, CONSTRAINT_NAME, CONCAT('check (', CHECK_CLAUSE, ')') \
              FROM information_schema.CHECK_CONSTRAINTS WHERE CONSTRAINT_SCHEMA = {db}",
    }];
    const MYSQL: &[Question] = &[Question {
        kind: Kind::Constraint,
        properties: &["definition", "enforced"],
        sql: "SELECT t.TABLE_NAME, c.CONSTRAINT_NAME, CONCAT('check ', c.CHECK_CLAUSE), t.ENFORCED \
              FROM information_schema.CHECK_CONSTRAINTS c \
              JOIN information_schema.TABLE_CONSTRAINTS t \
                ON t.CONSTRAINT_SCHEMA = c.CONSTRAINT_SCHEMA AND t.CONSTRAINT_NAME = c.CONSTRAINT_NAME \
              WHERE c.CONSTRAINT_SCHEMA = {db}",
    }];
    if facts.mariadb { MARIADB } else { MYSQL }
}

/// The properties of an index.
pub(super) const INDEX: &[&str] = &["columns", "unique", "type", "visible", "comment"];

/// The question about indexes, as far as this server's `STATISTICS` has the columns for it. Primary keys and unique
/// constraints are indexes here.
pub(super) fn indexes(columns: &[String]) -> String {
    let has = |name: &str| columns.iter().any(|column| column == name);
    let expression = if has("EXPRESSION") { "EXPRESSION" } else { "NULL" };
    let visible = if has("IS_VISIBLE") {
        "NULLIF(MAX(IS_VISIBLE), 'YES')"
    } else if has("IGNORED") {
        "IF(MAX(IGNORED) = 'YES', 'NO', NULL)"
    } else {
        "NULL"
    };
    format!(
        "SELECT TABLE_NAME, INDEX_NAME, \
            GROUP_CONCAT(CONCAT(COALESCE(COLUMN_NAME, {expression}, '?'), \
                                COALESCE(CONCAT('(', SUB_PART, ')'), ''), IF(COLLATION = 'D', ' desc', '')) \
                         ORDER BY SEQ_IN_INDEX SEPARATOR ', '), \
            IF(MAX(NON_UNIQUE) = 0, 'yes', NULL), MAX(INDEX_TYPE), {visible}, NULLIF(MAX(INDEX_COMMENT), '') \
         FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = {{db}} GROUP BY TABLE_NAME, INDEX_NAME"
    )
}
