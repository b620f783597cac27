"""A new version of the network parameters, made where the map's key is kept (see `bootstrap` for the directory)."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cryptography import x509

from p2petd.errors import NetworkError
from p2petd.identity.certificates import encode_certificates, load_certificates, load_root
from p2petd.identity.keys import load_signing_key
from p2petd.network.network_map import check_succession
from p2petd.network.parameters import (
    SIGNED_PARAMETERS_BYTES_MAX,
    ContractVersion,
    NetworkParameters,
    sign_parameters,
    verify_parameters,
)


def amend(
    network: Path, change: Callable[[NetworkParameters], NetworkParameters], valid_from_ns: int
) -> NetworkParameters:
    """Write the next version, in force from `valid_from_ns`, beside the others; nodes read it when they start.

    `network` holds root.crt, parameters/ and offline/. Raises NetworkError, KeyFileError or CertificateError, and
    writes nothing then.
    """
    root = load_root(network / "root.crt")
    versions = _versions(network / "parameters", root)
    newest = max(versions, key=lambda parameters: parameters.version)
    amended = replace(change(newest), version=newest.version + 1, valid_from_ns=valid_from_ns)
    check_succession([*versions, amended])
    key = load_signing_key(network / "offline" / "map.key")
    signed = sign_parameters(amended, key, encode_certificates(load_certificates(network / "offline" / "map.crt")))
    verify_parameters(signed, root)
    target = network / "parameters" / f"{amended.version}.params"
    try:
        with target.open("xb") as file:
            file.write(signed)
    except OSError as error:
        raise NetworkError(f"{target} cannot be written: {error.strerror}") from error
    return amended


def permit_contract(parameters: NetworkParameters, contract: ContractVersion) -> NetworkParameters:
    """The parameters with one more contract version. Raises NetworkError for one that they list with another hash."""
    for listed in parameters.contracts:
        if (listed.name, listed.version) == (contract.name, contract.version):
            if listed.code_hash == contract.code_hash:
                raise NetworkError(f"the network permits contract {contract.name} version {contract.version} already")
            raise NetworkError(
                f"the network permits contract {contract.name} version {contract.version} with other code; "
                "changed code gets a new version"
            )
    return replace(parameters, contracts=(*parameters.contracts, contract))


def _versions(directory: Path, root: x509.Certificate) -> list[NetworkParameters]:
    files = sorted(directory.glob("*.params"))
    if not files:
        raise NetworkError(f"{directory} holds no network parameters")
    versions = []
    for path in files:
        try:
            with path.open("rb") as file:
                encoded = file.read(SIGNED_PARAMETERS_BYTES_MAX + 1)
        except OSError as error:
            raise NetworkError(f"{path} cannot be read: {error.strerror}") from error
        versions.append(verify_parameters(encoded, root).parameters)
    return versions
