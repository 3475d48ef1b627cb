"""What a build borrows from this machine and must not leave in the image: pip's settings, certificates, proxies.

pip's settings and the certificate bundle go in as build secrets, which both engines mount for one step and record nowhere
(an index URL may hold a password); proxies as the predefined build arguments, which are not recorded either.
"""

import configparser
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

# Settings that say how to reach an index. Others (paths, users, constraints) speak of this machine and mean nothing inside.
_PIP_SETTINGS = {"index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout", "retries"}
_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")

CERTIFICATES_IN_BUILD = "/run/secrets/certificates"


def pip_settings(files: Iterable[str], environment: Mapping[str, str], *, certificates: bool) -> str:
    """One pip.conf for the build; later files win over earlier ones and the environment over all, as pip itself has it."""
    merged: dict[str, str] = {}
    for text in files:
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(text)
        except configparser.Error:
            continue  # pip will have complained about this file already; the build needs none of it
        for section in ("global", "install", "wheel"):
            if parser.has_section(section):
                merged.update(parser.items(section))
    for name, value in environment.items():
        if name.startswith("PIP_"):
            merged[name.removeprefix("PIP_").lower().replace("_", "-")] = value
    kept = {name: value for name, value in sorted(merged.items()) if name in _PIP_SETTINGS and value}
    kept["disable-pip-version-check"] = "true"
    kept["root-user-action"] = "ignore"
    if certificates:
        kept["cert"] = CERTIFICATES_IN_BUILD
    result = configparser.RawConfigParser()
    result["global"] = kept
    written = io.StringIO()
    result.write(written)
    return written.getvalue()


def pip_files(environment: Mapping[str, str], home: Path) -> list[str]:
    """The texts of pip's configuration files, weakest first."""
    paths = [Path("/etc/pip.conf"), home / ".pip" / "pip.conf", home / ".config" / "pip" / "pip.conf"]
    if configured := environment.get("PIP_CONFIG_FILE"):
        paths.append(Path(configured))
    return [path.read_text() for path in paths if path.is_file()]


def certificate_bundle(environment: Mapping[str, str]) -> Path | None:
    """The certificates this machine trusts: a machine behind its own authority reaches no index without them."""
    named = [environment.get(name, "") for name in ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")]
    return next((Path(path) for path in (*named, *_BUNDLES) if path and Path(path).is_file()), None)


def proxies(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: environment[name] for name in _PROXIES if environment.get(name)}
