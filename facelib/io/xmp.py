"""XMP packets: the regions of people in them, read, and edited so that every other byte stays as it is.

The format is that of the Metadata Working Group (MWG): "Guidelines for Handling Image Metadata" 2.0, section 5.9. To
write a packet of another program anew would lose comments, prefixes and order, so regions are cut out of its text, and
put into it.
"""

import math
import re
import xml.parsers.expat
from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
MWG = "http://www.metadataworkinggroup.com/schemas/regions/"
AREA = "http://ns.adobe.com/xmp/sType/Area#"
DIMENSIONS = "http://ns.adobe.com/xap/1.0/sType/Dimensions#"
OWN = "urn:facelib:1.0/"  # of the mark on the regions that are ours
NAMESPACES = f'xmlns:rdf="{RDF}" xmlns:mwg-rs="{MWG}" xmlns:stArea="{AREA}"'
FACE = "Face"  # kind of a region
EMPTY_PACKET = f"""\
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="facelib">
<rdf:RDF xmlns:rdf="{RDF}">
</rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
""".encode()


@dataclass(frozen=True)
class Region:
    """A region of a photo as it is stored, before its EXIF orientation is applied.

    name: of the person; "" where the region has none.
    area: x and y of the centre, width and height, as shares of the photo's width and height.
    kind: "Face", "Pet", "Focus" or "BarCode"; "" where the region does not say.
    is_ours: whether this package has written the region, and nobody has changed its name since.
    """

    name: str
    area: tuple[float, ...]
    kind: str = FACE
    is_ours: bool = False


@dataclass(frozen=True)
class Regions:
    """The regions of a packet.

    regions: those with a usable area, in order.
    size: width and height of the photo that they were made for, in pixels; () where it is not said.
    """

    regions: list[Region] = field(default_factory=list)
    size: tuple[float, ...] = ()


@dataclass(eq=False)
class _Element:
    """An element of a packet, and its place.

    tag: namespace and name. attributes: by namespace and name.
    start: byte of its "<". inner_end: byte of its end tag. end: byte after it, equal to inner_end for one like <a/>.
    text: directly in it, outside its children.
    """

    tag: str
    attributes: dict[str, str]
    start: int
    inner_end: int = 0
    end: int = 0
    text: str = ""
    children: list["_Element"] = field(default_factory=list)

    @property
    def structure(self) -> "_Element":
        """Where its properties are: in an rdf:Description, or in itself."""
        return next((child for child in self.children if child.tag == f"{RDF} Description"), self)

    def child(self, tag: str) -> "_Element | None":
        return next((child for child in self.structure.children if child.tag == tag), None)

    def value(self, tag: str) -> str:
        """The text of a property, which RDF may have as an attribute; "" where there is none."""
        child = self.child(tag)
        return self.structure.attributes.get(tag, child.text.strip() if child else "")


def read_regions(packet: bytes) -> Regions:
    """The regions of a packet.

    Raises:
        ValueError: it is no XMP.
    """
    for description in _rdf(packet).children:
        if holder := description.child(f"{MWG} Regions"):
            dimensions = holder.child(f"{MWG} AppliedToDimensions")
            size = _numbers(dimensions, DIMENSIONS, "wh") if dimensions else ()
            regions = [region for item in _items(holder) if (region := _region(item))]
            return Regions(regions, size if size and min(size) > 0 else ())
    return Regions()


def with_own_regions(packet: bytes, regions: Sequence[Region], size: tuple[int, int]) -> bytes:
    """The packet with these regions in place of those that this package has written into it before.

    Args:
        size: width and height of the photo as it is stored, in pixels.

    Raises:
        ValueError: it is no XMP in UTF-8.
    """
    packet.decode("utf-8")
    rdf = _rdf(packet)
    new = "".join(map(_region_text, regions))
    edits: list[tuple[int, int, bytes]] = []
    about = ""
    for description in rdf.children:
        about = description.attributes.get(f"{RDF} about", about)
        if not (holder := description.child(f"{MWG} Regions")):
            continue
        items = _items(holder)
        foreign = [item for item in items if not ((region := _region(item)) and region.is_ours)]
        if foreign:
            edits += [_cut(packet, item) for item in items if item not in foreign]
            edits.append((foreign[-1].end, foreign[-1].end, new.encode()))
            new = ""
        else:
            is_alone = description.children == [holder] and set(description.attributes) <= {f"{RDF} about"}
            edits.append(_cut(packet, description if is_alone else holder))
    if new:
        edits.append(_insertion(packet, rdf, _description_text(new, about, size)))
    for start, end, text in sorted(edits, reverse=True):
        packet = packet[:start] + text + packet[end:]
    return packet


def _rdf(packet: bytes) -> _Element:
    """The element rdf:RDF of a packet, whose children are descriptions of the photo."""
    root = _parse(packet)
    rdf = next((element for element in (root, *root.children) if element.tag == f"{RDF} RDF"), None)
    if rdf is None:
        raise ValueError("it is no XMP: there is no rdf:RDF in it")
    return rdf


def _parse(packet: bytes) -> _Element:
    """The root of a packet."""
    parser = xml.parsers.expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    top = _Element("", {}, 0)
    way = [top]

    def start(tag: str, attributes: dict[str, str]) -> None:
        element = _Element(tag, attributes, parser.CurrentByteIndex)
        way[-1].children.append(element)
        way.append(element)

    def end(tag: str) -> None:
        element, place = way.pop(), parser.CurrentByteIndex
        is_empty = not element.children and not element.text and packet[place - 2 : place] == b"/>"
        element.inner_end = place
        element.end = place if is_empty else packet.index(b">", place) + 1

    def text(characters: str) -> None:
        way[-1].text += characters

    def declaration(version: str, encoding: str | None, standalone: int) -> None:
        if encoding and encoding.lower() != "utf-8":
            raise ValueError(f"it is in {encoding}, not in UTF-8")

    def document_type(*_: object) -> None:
        raise ValueError("it is no XMP: it has a document type")

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text
    parser.XmlDeclHandler, parser.StartDoctypeDeclHandler = declaration, document_type
    try:
        parser.Parse(packet, True)
    except xml.parsers.expat.ExpatError as error:
        raise ValueError(f"it is no XMP ({error})") from None
    return top.children[0]


def _items(holder: _Element) -> list[_Element]:
    """The elements of a list of regions."""
    regions = holder.child(f"{MWG} RegionList")
    return [item for bag in (regions.children if regions else ()) for item in bag.children if item.tag == f"{RDF} li"]


def _region(item: _Element) -> Region | None:
    """The region of an element; None where it has no area that can be used."""
    place = item.child(f"{MWG} Area")
    area = _numbers(place, AREA, "xywh") if place else ()
    unit = place.value(f"{AREA} unit") if place else ""
    if not area or min(area[2:]) <= 0 or unit not in ("", "normalized"):
        return None
    name, kind = item.value(f"{MWG} Name"), item.value(f"{MWG} Type")
    extensions = item.child(f"{MWG} Extensions")
    return Region(name, area, kind, extensions is not None and extensions.value(f"{OWN} writtenName") == f"={name}")


def _numbers(element: _Element, namespace: str, names: str) -> tuple[float, ...]:
    """The values of these properties; () where one is no number."""
    try:
        values = tuple(float(element.value(f"{namespace} {name}")) for name in names)
    except ValueError:
        return ()
    return values if all(map(math.isfinite, values)) else ()


def _cut(packet: bytes, element: _Element) -> tuple[int, int, bytes]:
    """The edit that removes an element, with the line break before it."""
    start = element.start - (packet[element.start - 1 : element.start] == b"\n")
    return start, element.end, b""


def _insertion(packet: bytes, parent: _Element, text: str) -> tuple[int, int, bytes]:
    """The edit that puts a text at the end of an element."""
    if parent.inner_end < parent.end:
        place = parent.children[-1].end if parent.children else parent.inner_end
        return place, place, text.encode()
    tag = re.match(rb"<([^\s/>]+)", packet[parent.start :])
    assert tag
    return parent.end - 2, parent.end, b">" + text.encode() + b"</" + tag[1] + b">"


def _region_text(region: Region) -> str:
    x, y, width, height = (f"{value:.6f}" for value in region.area)
    name = escape(region.name)
    labels = "".join(
        f"\n <mwg-rs:{tag}>{text}</mwg-rs:{tag}>"
        for tag, text in (("Name", name), ("Type", escape(region.kind)))
        if text
    )
    return f"""
<rdf:li {NAMESPACES} rdf:parseType="Resource">{labels}
 <mwg-rs:Area stArea:x="{x}" stArea:y="{y}" stArea:w="{width}" stArea:h="{height}" stArea:unit="normalized"/>
 <mwg-rs:Extensions rdf:parseType="Resource">
  <facelib:writtenName xmlns:facelib="{OWN}">={name}</facelib:writtenName>
 </mwg-rs:Extensions>
</rdf:li>"""


def _description_text(regions: str, about: str, size: tuple[int, int]) -> str:
    """A description of the photo with these regions."""
    about = escape(about, {'"': "&quot;"})
    return f"""
<rdf:Description {NAMESPACES} rdf:about="{about}">
<mwg-rs:Regions rdf:parseType="Resource">
<mwg-rs:AppliedToDimensions xmlns:stDim="{DIMENSIONS}" stDim:w="{size[0]}" stDim:h="{size[1]}" stDim:unit="pixel"/>
<mwg-rs:RegionList>
<rdf:Bag>{regions}
</rdf:Bag>
</mwg-rs:RegionList>
</mwg-rs:Regions>
</rdf:Description>"""
