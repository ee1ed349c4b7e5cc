"""Django's PostgreSQL backend over checkout.link: `ENGINE = "config.postgres"`."""
