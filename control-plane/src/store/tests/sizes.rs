//! How much there is of each namespace is known without counting, and what there may be is held to.

use sqlx::{Connection as _, raw_sql};

use super::{
    Postgres, open,
    samples::{change, commit, commit_change, id, key, put_plan},
    sqlite_url,
};
use crate::{
    domain::{Change, Expect, Op},
    store::{StoreError, postgres, sqlite},
};

/// The last version that did not know.
const BEFORE: i64 = 8;

/// What it held.
const HELD: &str = "
    INSERT INTO environments VALUES ('old', '', NULL, 'abc', '1', 0, 0);
    INSERT INTO config_heads VALUES ('old', 'config', 'e', 3, ''), ('old', 'keys', 'e', 2, ''),
        ('empty', 'keys', 'e', 0, '');
    INSERT INTO plans VALUES ('old', 'gold', 'abcd', '2', 0, 0);
    INSERT INTO upstreams VALUES ('old', 'up', 'abcde', '3', 0, 0);
    INSERT INTO api_keys (environment, key_id, source_path, is_active, description, entity, etag,
        created_us, updated_us) VALUES
        ('old', 'k1', '', true, '', 'ab', '1', 0, 0), ('old', 'k2', '', true, '', 'abc', '2', 0, 0)";

/// Of each head, what it says and what is there.
const SIZES: &str = "
    SELECT h.environment, h.ns, h.entities, h.bytes,
        CASE h.ns WHEN 'keys' THEN
            (SELECT count(*) FROM api_keys k WHERE k.environment = h.environment)
        ELSE (SELECT count(*) FROM plans p WHERE p.environment = h.environment) + 1
            + (SELECT count(*) FROM upstreams u WHERE u.environment = h.environment) END,
        CASE h.ns WHEN 'keys' THEN
            (SELECT coalesce(sum(length(entity)), 0) FROM api_keys k WHERE k.environment = h.environment)
        ELSE (SELECT coalesce(sum(length(entity)), 0) FROM plans p WHERE p.environment = h.environment)
            + (SELECT coalesce(sum(length(entity)), 0) FROM upstreams u WHERE u.environment = h.environment)
            + (SELECT sum(length(entity)) FROM environments e WHERE e.environment = h.environment) END
    FROM config_heads h WHERE h.environment <> 'empty' ORDER BY h.environment, h.ns";

type Row = (String, String, i64, i64, i64, i64);

macro_rules! known_and_held_to {
    ($name:ident, $connection:ty, $schema:path, $url:expr, $how:literal) => {
        #[tokio::test]
        async fn $name() {
            let (url, _dir) = $url;
            let connect = || <$connection>::connect_with_suffix(&url, $how);
            let mut raw = connect().await;
            $schema().run_to(BEFORE, &mut raw).await.expect("migrates");
            raw_sql(HELD).execute(&mut raw).await.expect("writes");
            raw.close().await.expect("closes");

            let store = open(&url).await;
            let bigger = || {
                let mut key = key("k1");
                key.permissions.push("orders:write".into());
                Op::PutKey(key, Expect::Present)
            };
            let keys = ["k1", "k2", "k3"].map(|name| Op::PutKey(key(name), Expect::Absent));
            for ops in [
                keys.to_vec(),
                vec![put_plan("gold", 1), bigger()],
                vec![Op::DeleteKey(id("k2"), Expect::Present)],
                vec![Op::DeletePlan(id("gold"), Expect::Present), put_plan("silver", 1_000_000)],
            ] {
                commit(&store, ops).await.expect("commits");
            }
            let mut raw = connect().await;
            let rows: Vec<Row> = sqlx::query_as(SIZES).fetch_all(&mut raw).await.expect("reads");
            for (environment, ns, entities, bytes, counted, added_up) in &rows {
                assert_eq!((entities, bytes), (counted, added_up), "{environment} {ns}");
            }
            assert_eq!(rows.len(), 4, "{rows:?}");
            assert_eq!(
                (rows[2].2, rows[3].2),
                (3, 2),
                "settings, a plan and an upstream; two keys"
            );

            let fill = "UPDATE config_heads SET entities = 3999999 WHERE ns = 'keys'";
            raw_sql(fill).execute(&mut raw).await.expect("writes");
            let put = |name: &str| Op::PutKey(key(name), Expect::Absent);
            let both = commit(&store, vec![put("k4"), put("k5")]).await;
            assert!(
                matches!(&both, Err(StoreError::Full { what: "keys", held: 4_000_001, .. })),
                "{both:?}"
            );
            commit(&store, vec![put("k4")]).await.expect("the last one");
            let trial = Change { validate_only: true, ..change(vec![put("k5")]) };
            let trial = commit_change(&store, &trial).await;
            assert!(matches!(&trial, Err(StoreError::Full { .. })), "{trial:?}");
            commit(&store, vec![put_plan("more", 1)]).await.expect("config has room");
            let less = vec![Op::DeleteKey(id("k4"), Expect::Present)];
            commit(&store, less).await.expect("less is let through");
        }
    };
}

/// A connection beside the store's own.
trait Beside: sqlx::Connection + Sized {
    async fn connect_with_suffix(url: &str, suffix: &str) -> Self {
        Self::connect(&format!("{url}{suffix}")).await.expect("a database")
    }
}

impl Beside for sqlx::SqliteConnection {}
impl Beside for sqlx::PgConnection {}

known_and_held_to!(
    sqlite_knows_and_holds_to_it,
    sqlx::SqliteConnection,
    sqlite::schema,
    sqlite_url(),
    "?mode=rwc"
);

known_and_held_to!(
    postgres_knows_and_holds_to_it,
    sqlx::PgConnection,
    postgres::schema,
    (Postgres::shared().create_database("sizes"), ()),
    ""
);

#[tokio::test]
async fn an_object_nodes_would_not_take_is_refused() {
    let (store, _dir) = super::samples::scratch().await;
    let mut large = key("k1");
    large.permissions = vec!["x".repeat(1 << 20)];
    for ops in [
        vec![Op::PutKey(large.clone(), Expect::Absent)],
        vec![Op::PutKey(key("k2"), Expect::Absent), Op::PutKey(large, Expect::Absent)],
    ] {
        let refused = commit(&store, ops).await;
        assert!(
            matches!(&refused, Err(StoreError::TooLarge { kind: "key", id, .. }) if id == "k1"),
            "{refused:?}"
        );
    }
}
