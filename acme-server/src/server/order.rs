//! Orders (RFC 8555 section 7.4).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use acmekit_core::Identifier;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::request::{ByAccount, member, text};
use super::{Inner, new_id, reply, rfc3339};
use crate::model::identifier_json;
use crate::{
    Account, AccountId, Authorization, AuthorizationState, Certificate, NewOrder, Order, OrderState, Problem,
    ProblemType, Renewal,
};

/// How far from now the validity asked for may be.
const FURTHEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// How far an order is, as the wire has it (section 7.1.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Pending,
    Ready,
    Processing,
    Valid,
    Invalid,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Processing => "processing",
            Self::Valid => "valid",
            Self::Invalid => "invalid",
        }
    }
}

/// What newOrder asks for.
struct Wish {
    identifiers: Vec<Identifier>,
    not_before: Option<SystemTime>,
    not_after: Option<SystemTime>,
    profile: Option<String>,
    replaces: Option<String>,
}

pub(super) async fn new_order(
    State(server): State<Arc<Inner>>,
    request: ByAccount,
) -> Result<Response, Problem> {
    let wish = server.wish(&request.object()?)?;
    let replaced = match &wish.replaces {
        Some(id) => Some(server.replaceable(&request.account, id, &wish.identifiers).await?),
        None => None,
    };
    let renewal = match &replaced {
        Some(certificate) if server.is_suggested(certificate).await => Renewal::Suggested,
        _ => Renewal::No,
    };
    let asked = NewOrder::new(&request.account.id, &wish.identifiers)
        .with_profile(wish.profile.as_deref())
        .with_renewal(renewal);
    server.policy.new_order(&asked).await?;
    match server.order_or_reuse(&request.account.id, &wish, replaced.as_ref()).await {
        Ok(order) => {
            let response = reply::json(StatusCode::CREATED, &server.order_json(&order).await?);
            Ok(reply::located(response, &server.order_url(&order.id)))
        }
        Err(problem) => {
            server.policy.order_refused(&asked).await;
            Err(problem)
        }
    }
}

pub(super) async fn order(
    State(server): State<Arc<Inner>>,
    Path(id): Path<String>,
    request: ByAccount,
) -> Result<Response, Problem> {
    request.reads()?;
    let order = server.order(&id, &request).await?;
    server.order_reply(&order).await
}

#[derive(Debug, Deserialize)]
pub(super) struct Page {
    cursor: Option<String>,
}

/// An account's orders, a page at a time (section 7.1.2.1).
pub(super) async fn orders(
    State(server): State<Arc<Inner>>,
    Path(id): Path<String>,
    Query(page): Query<Page>,
    request: ByAccount,
) -> Result<Response, Problem> {
    request.reads()?;
    request.owns(&AccountId::new(id))?;
    let count = server.settings.orders_per_page.max(1);
    let mut ids = server.state.orders_of(&request.account.id, page.cursor.as_deref(), count + 1).await?;
    let more = ids.len() > count;
    ids.truncate(count);
    let mut urls = Vec::new();
    for id in &ids {
        // What has come to nothing is of no use to anybody (section 7.1.2.1).
        match server.state.order(id).await? {
            Some(order) if server.status(&order).await? != Status::Invalid => urls.push(server.order_url(id)),
            _ => {}
        }
    }
    let response = reply::json(StatusCode::OK, &json!({ "orders": urls }));
    Ok(match ids.last() {
        Some(last) if more => {
            let next = format!("{}/orders?cursor={last}", server.account_url(&request.account.id));
            reply::linked(response, &next, "next")
        }
        _ => response,
    })
}

impl Inner {
    pub(super) fn order_url(&self, id: &str) -> String {
        self.url(&format!("/acme/order/{id}"))
    }

    /// The account's order of this id.
    pub(super) async fn order(&self, id: &str, request: &ByAccount) -> Result<Order, Problem> {
        let order = self.state.order(id).await?;
        let order = order.ok_or_else(|| Problem::not_found("there is no such order"))?;
        request.owns(&order.account)?;
        Ok(order)
    }

    /// An order as an answer: one under way says when to ask again.
    pub(super) async fn order_reply(&self, order: &Order) -> Result<Response, Problem> {
        let response = reply::json(StatusCode::OK, &self.order_json(order).await?);
        let response = reply::located(response, &self.order_url(&order.id));
        Ok(match self.status(order).await? {
            Status::Pending | Status::Processing => reply::retry_after(response, self.settings.retry_after),
            _ => response,
        })
    }

    pub(super) async fn status(&self, order: &Order) -> Result<Status, Problem> {
        match order.state {
            OrderState::Processing => return Ok(Status::Processing),
            OrderState::Valid(_) => return Ok(Status::Valid),
            OrderState::Invalid(_) => return Ok(Status::Invalid),
            OrderState::Open if order.expires <= self.now() => return Ok(Status::Invalid),
            OrderState::Open => {}
        }
        let mut status = Status::Ready;
        for id in &order.authorizations {
            let authorization = self.state.authorization(id).await?;
            match authorization {
                Some(authorization) if authorization.expires <= self.now() => return Ok(Status::Invalid),
                Some(Authorization { state: AuthorizationState::Valid, .. }) => {}
                Some(Authorization { state: AuthorizationState::Pending, .. }) => status = Status::Pending,
                _ => return Ok(Status::Invalid),
            }
        }
        Ok(status)
    }

    pub(super) async fn order_json(&self, order: &Order) -> Result<Value, Problem> {
        let identifiers: Vec<Value> = order.identifiers.iter().map(identifier_json).collect();
        let authorizations: Vec<String> =
            order.authorizations.iter().map(|id| self.authorization_url(id)).collect();
        let mut json = json!({
            "status": self.status(order).await?.as_str(),
            "expires": rfc3339(order.expires),
            "identifiers": identifiers,
            "authorizations": authorizations,
            "finalize": format!("{}/finalize", self.order_url(&order.id)),
        });
        if let Some(time) = order.not_before {
            json["notBefore"] = json!(rfc3339(time));
        }
        if let Some(time) = order.not_after {
            json["notAfter"] = json!(rfc3339(time));
        }
        if let Some(profile) = &order.profile {
            json["profile"] = json!(profile);
        }
        if let Some(replaces) = &order.replaces {
            json["replaces"] = json!(replaces);
        }
        match &order.state {
            OrderState::Valid(id) => json["certificate"] = json!(self.certificate_url(id)),
            OrderState::Invalid(problem) => json["error"] = problem.to_json(),
            _ => {}
        }
        Ok(json)
    }

    fn wish(&self, payload: &Map<String, Value>) -> Result<Wish, Problem> {
        let time = |name: &str| {
            let Some(given) = text(payload, name)? else { return Ok(None) };
            let stamp: jiff::Timestamp =
                given.parse().map_err(|_| Problem::malformed(format!("`{name}` is not an RFC 3339 time")))?;
            let time = SystemTime::from(stamp);
            // Beyond, no certificate can say it (RFC 5280 section 4.1.2.5), and no CA would.
            let range = self.now().checked_sub(FURTHEST)..self.now().checked_add(FURTHEST);
            match range.contains(&Some(time)) {
                true => Ok(Some(time)),
                false => Err(Problem::malformed(format!("`{name}` is too far from now"))),
            }
        };
        let (not_before, not_after) = (time("notBefore")?, time("notAfter")?);
        if let Some(end) = not_after
            && end <= not_before.unwrap_or_else(|| self.now())
        {
            return Err(Problem::malformed("`notAfter` is not after the beginning"));
        }
        let profile = text(payload, "profile")?.filter(|profile| !profile.is_empty());
        if let Some(profile) = profile
            && !self.issuer.profiles().contains_key(profile)
        {
            let why = format!("the profile `{}` is not offered", profile.escape_debug());
            return Err(Problem::new(ProblemType::InvalidProfile, why));
        }
        Ok(Wish {
            identifiers: identifiers(payload, self.settings.max_names)?,
            not_before,
            not_after,
            profile: profile.map(str::to_owned),
            replaces: text(payload, "replaces")?.filter(|id| !id.is_empty()).map(str::to_owned),
        })
    }

    /// The certificate an order says to replace, if it may (RFC 9773 section 5).
    async fn replaceable(
        &self,
        account: &Account,
        id: &str,
        identifiers: &[Identifier],
    ) -> Result<Certificate, Problem> {
        let certificate = self.state.certificate_of_renewal_id(id).await?;
        let certificate = certificate
            .ok_or_else(|| Problem::not_found("`replaces` names a certificate that does not exist here"))?;
        if certificate.account != account.id {
            return Err(Problem::unauthorized("`replaces` names a certificate of another account"));
        }
        if !certificate.identifiers.iter().any(|identifier| identifiers.contains(identifier)) {
            return Err(Problem::malformed("the order has no identifier of the certificate it replaces"));
        }
        // Also while the replacement is only on its way; one that came to nothing replaces nothing.
        if let Some(by) = &certificate.replaced_by
            && let Some(other) = self.state.order(by).await?
            && self.status(&other).await? != Status::Invalid
        {
            return Err(already_replaced());
        }
        Ok(certificate)
    }

    /// Whether now lies in the certificate's suggested window.
    async fn is_suggested(&self, certificate: &Certificate) -> bool {
        match self.issuer.renewal_info(certificate.leaf_der()).await {
            Ok(Some(window)) => (window.start..window.end).contains(&self.now()),
            _ => false,
        }
    }

    async fn order_or_reuse(
        &self,
        account: &AccountId,
        wish: &Wish,
        replaced: Option<&Certificate>,
    ) -> Result<Order, Problem> {
        if let Some(open) = self.open_order(account, wish).await? {
            return Ok(open);
        }
        let id = new_id();
        let mut expires = self.after(self.settings.order_lifetime);
        let (mut authorizations, mut new) = (Vec::new(), Vec::new());
        for identifier in &wish.identifiers {
            let authorization = match self.valid_authorization(account, identifier).await? {
                Some(valid) => valid,
                None => {
                    let made = self.offer(account, identifier)?;
                    new.push(made.clone());
                    made
                }
            };
            expires = expires.min(authorization.expires);
            authorizations.push(authorization.id);
        }
        let order = Order {
            id: id.clone(),
            account: account.clone(),
            identifiers: wish.identifiers.clone(),
            authorizations,
            created: self.now(),
            expires,
            not_before: wish.not_before,
            not_after: wish.not_after,
            profile: wish.profile.clone(),
            replaces: wish.replaces.clone(),
            state: OrderState::Open,
        };
        self.state.create_order(order.clone(), new).await?;
        if let Some(certificate) = replaced {
            let was = certificate.replaced_by.clone();
            let taken = self
                .state
                .change_certificate(&certificate.id, &mut |certificate| {
                    // Another order was faster since `replaceable` looked.
                    if certificate.replaced_by != was {
                        return Err(already_replaced());
                    }
                    certificate.replaced_by = Some(id.clone());
                    Ok(())
                })
                .await;
            if let Err(problem) = taken {
                let why = problem.clone();
                self.state
                    .change_order(&id, &mut |order| {
                        order.state = OrderState::Invalid(why.clone());
                        Ok(())
                    })
                    .await?;
                return Err(problem);
            }
        }
        Ok(order)
    }

    /// The order the account has open for the very same wish.
    async fn open_order(&self, account: &AccountId, wish: &Wish) -> Result<Option<Order>, Problem> {
        if !self.settings.reuse_orders || wish.replaces.is_some() {
            return Ok(None);
        }
        let Some(order) = self.state.order_for(account, &wish.identifiers).await? else { return Ok(None) };
        let same = order.profile == wish.profile
            && order.replaces.is_none()
            && (order.not_before, order.not_after) == (wish.not_before, wish.not_after);
        match self.status(&order).await? {
            Status::Pending | Status::Ready if same => Ok(Some(order)),
            _ => Ok(None),
        }
    }
}

fn already_replaced() -> Problem {
    Problem::new(
        ProblemType::AlreadyReplaced,
        "the certificate that `replaces` names has a replacement already",
    )
}

/// The order's identifiers: sorted, each once. All that are wrong are told at once (section 6.7.1).
fn identifiers(payload: &Map<String, Value>, most: usize) -> Result<Vec<Identifier>, Problem> {
    let list = match member(payload, "identifiers") {
        Some(Value::Array(list)) if !list.is_empty() => list,
        _ => return Err(Problem::malformed("`identifiers` is not an array of at least one identifier")),
    };
    if list.len() > most {
        let why = format!("the order has {} identifiers, and may have {most}", list.len());
        return Err(Problem::malformed(why));
    }
    let (mut found, mut wrong) = (BTreeSet::new(), Vec::new());
    for entry in list {
        match identifier(entry) {
            Ok(identifier) => _ = found.insert(identifier),
            Err(problem) => wrong.push(problem),
        }
    }
    match wrong.len() {
        0 => Ok(found.into_iter().collect()),
        1 => Err(wrong.remove(0)),
        count => {
            let kind = wrong[0].kind();
            Err(Problem::new(kind, format!("{count} identifiers are refused; see the subproblems"))
                .with_subproblems(wrong))
        }
    }
}

fn identifier(entry: &Value) -> Result<Identifier, Problem> {
    let field = |name: &str| {
        let text = entry.get(name).and_then(Value::as_str);
        text.ok_or_else(|| Problem::malformed(format!("an identifier has no `{name}` of text")))
    };
    let (kind, value) = (field("type")?, field("value")?);
    let shown = || value.escape_debug().take(300).collect::<String>();
    match kind {
        "dns" => match value.parse::<Identifier>() {
            // A-labels in lower case, nothing else, is what a certificate can hold.
            Ok(name)
                if !matches!(name, Identifier::Ip(_)) && name.to_string() == value.to_ascii_lowercase() =>
            {
                Ok(name)
            }
            _ => Err(Problem::new(
                ProblemType::RejectedIdentifier,
                format!("`{}` is not a DNS name a certificate can hold", shown()),
            )),
        },
        "ip" => match value.parse::<IpAddr>() {
            Ok(address) if address.to_string() == value => Ok(Identifier::Ip(address)),
            _ => Err(Problem::malformed(format!("`{}` is not an IP address in its usual form", shown()))),
        },
        other => Err(Problem::new(
            ProblemType::UnsupportedIdentifier,
            format!(
                "identifiers of type `{}` are not supported",
                other.escape_debug().take(100).collect::<String>()
            ),
        )),
    }
}
