//! The suite for deployers, as TLS clients see it.

use acmekit_conformance::deployer::{DeployerSubject, NAMES};

use super::*;

struct Local {
    server: HttpsServer,
    other: HttpsServer,
    deployer: Arc<Live>,
}

impl Local {
    async fn start() -> Self {
        let names = NAMES.map(str::to_owned);
        let server = HttpsServer::start(&names).await.unwrap();
        let other = HttpsServer::start(&names).await.unwrap();
        Self { deployer: server.deployer(), server, other }
    }
}

#[async_trait]
impl DeployerSubject for Local {
    fn deployer(&self) -> Arc<dyn Deployer> {
        Arc::clone(&self.deployer) as _
    }

    fn handshake_address(&self) -> SocketAddr {
        self.server.address()
    }

    /// It looks at another server, and so never sees the new certificate.
    async fn break_target(&mut self) {
        self.deployer = Arc::new(Live {
            certificate: Arc::clone(&self.deployer.certificate),
            address: self.other.address(),
            changing: Mutex::new(()),
        });
    }

    async fn mend(&mut self) {
        self.deployer = self.server.deployer();
    }

    async fn release(&mut self, _: &CertificateId) {}
}

acmekit_conformance::deployer_suite!(Local::start());
