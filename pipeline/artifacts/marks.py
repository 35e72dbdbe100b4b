"""Images marked as synthetic: IPTC's `DigitalSourceType` in an XMP packet, which stays with an image that is copied.

The packet names the method, its candidate and the dataset's fingerprint, so that an image that turns up elsewhere can
be traced. It is a function of them alone: equal images have equal bytes.
"""

from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import quoteattr

from pipeline.artifacts.dataset_json import origins
from pipeline.runtime.errors import UserError

XMP = "XML:com.adobe.xmp"  # keyword of the iTXt chunk of a PNG (XMP specification, part 3, section 1.1.5)
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
PACKET = (
    "<?xpacket begin='' id='W5M0MpCehiHzreSzNTczkc9d'?>"
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'xmlns:penumbra="https://arxiv.org/abs/2406.16525#"{attributes}/></rdf:RDF></x:xmpmeta>'
    "<?xpacket end='r'?>"
)


def packet(method: str, candidate: int, fingerprint: str, source_type: str | None) -> str:
    """The XMP packet of one image.

    Args:
        source_type: a name in IPTC's vocabulary, such as `trainedAlgorithmicMedia`; None for an image that is as it
            was found, of which nothing is claimed.
    """
    named = {"Iptc4xmpExt:DigitalSourceType": SOURCE_TYPES + source_type} if source_type else {}
    named |= {"penumbra:Method": method, "penumbra:Candidate": str(candidate), "penumbra:Dataset": fingerprint}
    return PACKET.format(attributes="".join(f" {name}={quoteattr(value)}" for name, value in named.items()))


def fingerprints(about: Mapping[str, Any]) -> set[str]:
    """Those that the images' marks name."""
    return {origin["fingerprint"] for origin in origins(about) if "fingerprint" in origin}


def check(name: str, found: str | None, fields: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Check that an image is marked as its dataset.json promises; those that others made may promise nothing.

    Args:
        found: the packet in its PNG.
        fields: of its index.

    Raises:
        UserError: its packet is missing, or is not that of its method, candidate and dataset.
    """
    promised = [_promised(origin, fields) for origin in origins(about) if fields["method"] in origin["methods"]]
    if found not in promised and None not in promised:
        state = "no mark" if found is None else "the mark of another image"
        raise UserError(f"{name}.png: {state}, expected that of a synthetic image of this dataset; get it again")


def _promised(origin: Mapping[str, Any], fields: Mapping[str, Any]) -> str | None:
    if (fingerprint := origin.get("fingerprint")) is None:
        return None
    source_type = origin["methods"][fields["method"]].get("source_type")
    return packet(fields["method"], fields["candidate"], fingerprint, source_type)
