"""Further versions of the parameters of a network that a test has made."""

from dataclasses import replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from p2petd.identity.certificates import load_root
from p2petd.identity.keys import load_signing_key
from p2petd.network.parameters import NetworkParameters, sign_parameters, verify_parameters
from p2petd.units import TimeNs


def newest_parameters(directory: Path) -> NetworkParameters:
    """The newest version in the directory of a made network."""
    network = directory / "network"
    root = load_root(network / "root.crt")
    versions = [verify_parameters(file.read_bytes(), root) for file in (network / "parameters").glob("*.params")]
    return max((signed.parameters for signed in versions), key=lambda parameters: parameters.version)


def publish(directory: Path, parameters: NetworkParameters) -> None:
    """Sign a version as the network's map and put it where nodes read it when they start."""
    network = directory / "network"
    certificate = x509.load_pem_x509_certificate((network / "offline" / "map.crt").read_bytes())
    key = load_signing_key(network / "offline" / "map.key")
    signed = sign_parameters(parameters, key, [certificate.public_bytes(Encoding.DER)])
    (network / "parameters" / f"{parameters.version}.params").write_bytes(signed)


def without_notary(parameters: NetworkParameters, name: str, valid_from_ns: int) -> NetworkParameters:
    """The next version, which does not list this notary any more; markets settle at the first that is left."""
    left = tuple(notary for notary in parameters.notaries if notary.name != name)
    markets = tuple(replace(market, settlement_notary=left[0].service_key) for market in parameters.markets)
    return replace(
        parameters,
        version=parameters.version + 1,
        valid_from_ns=TimeNs(valid_from_ns),
        notaries=left,
        markets=markets,
    )
