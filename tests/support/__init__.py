"""What tests of several rooms share: models, docks, servers, clients that break off."""
