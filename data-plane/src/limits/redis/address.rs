//! Where Redis is: one server, a master that sentinels know, or a cluster.
//!
//! The scheme says which, and whether TLS is spoken; lists are written as in the storage URLs of
//! Python's `limits`. What was given may hold a password, so no mistake repeats any of it.

use std::path::PathBuf;

use redis::{ConnectionAddr, ConnectionInfo, RedisConnectionInfo};
use thiserror::Error;
use url::form_urlencoded;

/// The port of sentinels whose URL names none.
const SENTINEL_PORT: u16 = 26379;

/// How a node comes to Redis.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// Where it is.
    pub address: RedisAddress,
    /// The file of the certificates its own must be signed by; `None`: those browsers trust.
    pub ca: Option<PathBuf>,
}

/// Where Redis is, as `--redis-url` says it.
#[derive(Clone, Debug)]
pub struct RedisAddress(pub(super) Kind);

/// What is there.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    One(ConnectionInfo),
    Watched(Watched),
    /// Some servers of a cluster; they know the others.
    Cluster(Vec<ConnectionInfo>),
}

/// A master that sentinels know.
#[derive(Clone, Debug)]
pub(in crate::limits) struct Watched {
    /// Their addresses, and how to log in there.
    pub(super) sentinels: Vec<ConnectionInfo>,
    pub(super) master: String,
    /// How to log in at the master.
    pub(super) login: RedisConnectionInfo,
}

/// What is wrong with the URL, and how to mend it. Begins as the setting's name goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum RedisAddressError {
    /// Its scheme is none of those known.
    #[error(
        "is no URL of Redis: give one such as redis://host:6379/0, \
         redis+sentinel://host:26379,host:26379/mymaster or redis+cluster://host:6379,host:6379, \
         with rediss for TLS"
    )]
    Scheme,
    /// It has the right scheme and can't be read.
    #[error(
        "can't be read: after the scheme write [user:password@]host:port, several with commas \
         between, then /database or /master; in user and password %40 for '@', %2F for '/', \
         %3A for ':', %3F for '?' and %25 for '%'"
    )]
    Unreadable,
    /// It has a fragment.
    #[error(
        "has a '#', which means nothing here: write %23 where it belongs to a password; \
         certificates are always checked, against those of --redis-ca if that is given"
    )]
    Fragment,
    /// It names sentinels and no master.
    #[error(
        "names no master: write the name the sentinels know it by behind them, as in \
         redis+sentinel://host:26379/mymaster"
    )]
    NoMaster,
    /// It names a cluster and a database.
    #[error("names a database, and a cluster has only one: leave out what follows the servers")]
    DatabaseOfCluster,
    /// It has parameters that are not known.
    #[error(
        "has parameters that are not known: behind a '?' only sentinel_user and \
         sentinel_password may stand, for sentinels"
    )]
    Parameter,
}

impl RedisAddress {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it and how to mend it.
    pub fn parse(text: &str) -> Result<Self, RedisAddressError> {
        if text.contains('#') {
            return Err(RedisAddressError::Fragment);
        }
        let (scheme, rest) = text.split_once("://").ok_or(RedisAddressError::Scheme)?;
        let kind = match scheme.split_once('+') {
            Some((family, "sentinel")) => List::split(family, rest).watched()?,
            Some((family, "cluster")) => List::split(family, rest).cluster()?,
            _ => Kind::One(server(text)?),
        };
        Ok(Self(kind))
    }

    /// Whether TLS is spoken there.
    pub(crate) fn is_tls(&self) -> bool {
        let first = match &self.0 {
            Kind::One(server) => Some(server),
            Kind::Watched(watched) => watched.sentinels.first(),
            Kind::Cluster(servers) => servers.first(),
        };
        first.is_some_and(is_tls)
    }
}

/// A URL that lists servers, taken apart.
struct List<'a> {
    /// The scheme without what kind of servers they are.
    family: &'a str,
    /// With the `@` at its end; empty where there is none.
    login: &'a str,
    servers: &'a str,
    path: &'a str,
    query: &'a str,
}

impl<'a> List<'a> {
    fn split(family: &'a str, rest: &'a str) -> Self {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, servers) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
        Self { family, login, servers, path, query }
    }

    fn watched(&self) -> Result<Kind, RedisAddressError> {
        let (master, database) = self.path.split_once('/').unwrap_or((self.path, ""));
        let own = RedisConnectionInfo::default();
        let login = form_urlencoded::parse(self.query.replace('+', "%2B").as_bytes()).try_fold(
            own,
            |own, (name, value)| match &*name {
                "sentinel_user" => Ok(own.set_username(value)),
                "sentinel_password" => Ok(own.set_password(value)),
                _ => Err(RedisAddressError::Parameter),
            },
        )?;
        let sentinels: Result<Vec<_>, _> = self
            .servers
            .split(',')
            .map(|host| {
                let has_port = host.rfind(':') > host.rfind(']');
                let port = if has_port { String::new() } else { format!(":{SENTINEL_PORT}") };
                let at = server(&format!("{}://{}{port}/", self.family, host.trim()))?;
                Ok(at.set_redis_settings(login.clone()))
            })
            .collect();
        let sentinels = sentinels?;
        if master.is_empty() {
            return Err(RedisAddressError::NoMaster);
        }
        // Any host will do: what is taken of it is how to log in.
        let login = server(&format!("{}://{}host/{database}", self.family, self.login))?;
        let login = login.redis_settings().clone();
        Ok(Kind::Watched(Watched { sentinels, master: master.to_owned(), login }))
    }

    fn cluster(&self) -> Result<Kind, RedisAddressError> {
        let Self { family, login, .. } = self;
        let servers = self.servers.split(',');
        let servers: Result<Vec<_>, _> =
            servers.map(|host| server(&format!("{family}://{login}{}/", host.trim()))).collect();
        let servers = servers?;
        if !self.path.is_empty() {
            return Err(RedisAddressError::DatabaseOfCluster);
        }
        if !self.query.is_empty() {
            return Err(RedisAddressError::Parameter);
        }
        Ok(Kind::Cluster(servers))
    }
}

/// Whether TLS is spoken with one server.
pub(super) fn is_tls(server: &ConnectionInfo) -> bool {
    matches!(server.addr(), ConnectionAddr::TcpTls { .. })
}

/// Reads the URL of one server.
fn server(text: &str) -> Result<ConnectionInfo, RedisAddressError> {
    let url = redis::parse_redis_url(text);
    if url.is_none() && !SCHEMES.iter().any(|scheme| text.starts_with(scheme)) {
        return Err(RedisAddressError::Scheme);
    }
    url.and_then(|url| redis::IntoConnectionInfo::into_connection_info(url).ok())
        .ok_or(RedisAddressError::Unreadable)
}

const SCHEMES: [&str; 4] = ["redis://", "rediss://", "valkey://", "valkeys://"];

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> RedisAddress {
        RedisAddress::parse(text).unwrap_or_else(|fault| panic!("{text} {fault}"))
    }

    fn login(of: &RedisConnectionInfo) -> (i64, Option<&str>, Option<&str>) {
        (of.db(), of.username(), of.password())
    }

    #[test]
    fn one_server_is_named_as_ever() {
        for (text, address, is_tls) in [
            ("redis://127.0.0.1", "127.0.0.1:6379", false),
            ("rediss://cache:6380/2", "cache:6380", true),
            ("redis://[::1]:7000", "::1:7000", false),
            ("valkeys://cache", "cache:6379", true),
            ("unix:///run/redis.sock", "/run/redis.sock", false),
        ] {
            let parsed = parse(text);
            assert_eq!(parsed.is_tls(), is_tls, "{text}");
            let Kind::One(server) = parsed.0 else { panic!("{text}") };
            assert_eq!(server.addr().to_string(), address, "{text}");
        }
        let Kind::One(server) = parse("redis://fast%40gate:p%2Fw%23@h/3").0 else { panic!() };
        assert_eq!(login(server.redis_settings()), (3, Some("fast@gate"), Some("p/w#")));
    }

    #[test]
    fn sentinels_are_listed_before_their_master() {
        let text = "rediss+sentinel://fg:p%40w@s1:26380,s2,[::1]/mymaster/3\
                    ?sentinel_user=su&sentinel_password=a+b%26c";
        let parsed = parse(text);
        assert!(parsed.is_tls());
        let Kind::Watched(watched) = parsed.0 else { panic!() };
        let addresses = watched.sentinels.iter().map(|one| one.addr().to_string());
        assert_eq!(addresses.collect::<Vec<_>>(), ["s1:26380", "s2:26379", "::1:26379"]);
        assert_eq!(watched.master, "mymaster");
        assert_eq!(login(&watched.login), (3, Some("fg"), Some("p@w")));
        for one in &watched.sentinels {
            assert_eq!(login(one.redis_settings()), (0, Some("su"), Some("a+b&c")));
        }
        let Kind::Watched(bare) = parse("redis+sentinel://s1/m").0 else { panic!() };
        assert_eq!(login(&bare.login), (0, None, None));
        assert_eq!(login(bare.sentinels[0].redis_settings()), (0, None, None));
    }

    #[test]
    fn a_cluster_is_some_of_its_servers() {
        let Kind::Cluster(servers) = parse("redis+cluster://fg:pw@n1:7000, n2:7001,n3").0 else {
            panic!()
        };
        let addresses = servers.iter().map(|one| one.addr().to_string());
        assert_eq!(addresses.collect::<Vec<_>>(), ["n1:7000", "n2:7001", "n3:6379"]);
        for server in &servers {
            assert_eq!(login(server.redis_settings()), (0, Some("fg"), Some("pw")));
        }
        assert!(parse("rediss+cluster://n1").is_tls());
    }

    #[test]
    fn what_is_wrong_is_told_and_nothing_repeated() {
        use RedisAddressError as Fault;
        for (text, fault) in [
            ("hidden", Fault::Scheme),
            ("postgres://u:hidden@h", Fault::Scheme),
            ("http+cluster://u:hidden@h:1", Fault::Scheme),
            ("redis+ring://u:hidden@h:1", Fault::Scheme),
            ("redis://u:hidden@", Fault::Unreadable),
            ("redis://u:hidden@h:port", Fault::Unreadable),
            ("redis://u:hidden@h:70000", Fault::Unreadable),
            ("redis://u:hidden@h/database", Fault::Unreadable),
            ("redis://u:hidden@0.0.0.0", Fault::Unreadable),
            ("redis://u:hidd/en@h", Fault::Unreadable),
            ("redis+sentinel://u:hidden@h:1/mymaster/database", Fault::Unreadable),
            ("redis+sentinel://u:hidd/en@h:1/mymaster", Fault::Unreadable),
            ("redis+sentinel://u:hidden@/mymaster", Fault::Unreadable),
            ("redis+cluster://u:hidden@n1:7000,,n2:7001", Fault::Unreadable),
            ("redis+cluster://u:hidd?en@n1:7000", Fault::Unreadable),
            ("rediss://u:hidden@h#insecure", Fault::Fragment),
            ("redis+cluster://u:hidd#en@n1:7000", Fault::Fragment),
            ("redis+sentinel://u:hidden@h:1", Fault::NoMaster),
            ("redis+sentinel://u:hidden@h:1/", Fault::NoMaster),
            ("redis+cluster://u:hidden@n1:7000/1", Fault::DatabaseOfCluster),
            ("redis+sentinel://h:1/m?password=hidden", Fault::Parameter),
            ("redis+cluster://n1:7000?password=hidden", Fault::Parameter),
        ] {
            let found = RedisAddress::parse(text).expect_err(text);
            assert_eq!(found, fault, "{text}");
            assert!(!found.to_string().contains("hidd"), "{found}");
        }
    }

    #[test]
    fn passwords_are_never_shown() {
        for text in [
            "redis://u:hidden@h",
            "redis+sentinel://u:hidden@h/m?sentinel_password=hidden",
            "redis+cluster://u:hidden@h",
        ] {
            assert!(!format!("{:?}", parse(text)).contains("hidden"), "{text}");
        }
    }
}
