"""Sign-on of staff by an OpenID Connect provider."""
