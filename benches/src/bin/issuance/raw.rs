//! A loop over instant-acme as its documentation has it: nothing is kept, nothing survives.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use instant_acme::{
    Account, AuthorizationStatus, BodyWrapper, BytesResponse, ChallengeType, Error, HttpClient, Identifier,
    NewAccount, NewOrder, OrderStatus, RetryPolicy,
};

use crate::job::{Contender, Job};
use crate::txt::Txt;

pub(crate) struct Raw {
    account: Account,
    pauses: RetryPolicy,
    txt: Txt,
}

impl Raw {
    pub(crate) async fn new(job: &Job, client: reqwest::Client, txt: Txt) -> Result<Self, String> {
        let builder = match job.contender {
            Contender::Nodelay | Contender::NodelayEager => {
                Account::builder_with_http(Box::new(Reqwest(client)))
            }
            _ => Account::builder_with_root(&job.root).map_err(told)?,
        };
        let new = NewAccount { contact: &[], terms_of_service_agreed: true, only_return_existing: false };
        let (account, _) = builder.create(&new, job.directory.clone(), None).await.map_err(told)?;
        let pauses = match job.contender {
            Contender::DefaultEager | Contender::NodelayEager => {
                RetryPolicy::new().initial_delay(Duration::from_millis(1))
            }
            _ => RetryPolicy::default(),
        };
        Ok(Self { account, pauses, txt })
    }

    pub(crate) async fn obtain(&self, names: &[String]) -> Result<(), String> {
        let identifiers: Vec<Identifier> = names.iter().cloned().map(Identifier::Dns).collect();
        let mut order = self.account.new_order(&NewOrder::new(&identifiers)).await.map_err(told)?;
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(told)?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let name = authorization.identifier().to_string();
            let mut challenge =
                authorization.challenge(ChallengeType::Dns01).ok_or("no dns-01 is offered")?;
            let value = challenge.key_authorization().dns_value();
            self.txt.set(&name, value).await.map_err(|error| error.report())?;
            challenge.set_ready().await.map_err(told)?;
        }
        let status = order.poll_ready(&self.pauses).await.map_err(told)?;
        if status != OrderStatus::Ready {
            return Err(format!("the order is {status:?}"));
        }
        for name in names {
            self.txt.clear(name).await.map_err(|error| error.report())?;
        }
        order.finalize().await.map_err(told)?;
        order.poll_certificate(&self.pauses).await.map_err(told).map(drop)
    }
}

fn told(error: Error) -> String {
    format!("instant-acme: {error}")
}

/// The HTTP client that an author who has measured puts in.
struct Reqwest(reqwest::Client);

impl HttpClient for Reqwest {
    fn request(
        &self,
        request: http::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.0.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(|error| Error::Other(Box::new(error)))?.to_bytes();
            let request = reqwest::Request::try_from(http::Request::from_parts(parts, body));
            let other = |error: reqwest::Error| Error::Other(Box::new(error));
            let answer = client.execute(request.map_err(other)?).await.map_err(other)?;
            let mut response = http::Response::new(());
            *response.status_mut() = answer.status();
            *response.headers_mut() = answer.headers().clone();
            let body = answer.bytes().await.map_err(other)?;
            Ok(BytesResponse::from(response.map(|()| Full::new(body))))
        })
    }
}
