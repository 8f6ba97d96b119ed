"""XMP packets of several programs: their regions are read, ours come and go, and every other byte stays."""

import pytest

from facelib.io.xmp import EMPTY_PACKET, Region, read_regions, with_own_regions

SIZE = (600, 400)
ANN = Region("Ann <Müller> & \"co\" 'x'", (0.25, 0.5, 0.125, 0.25))
BOB = Region("Bob", (0.75, 0.5, 0.125, 0.25))
RDF = "xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'"
MWG = (
    "xmlns:mwg-rs='http://www.metadataworkinggroup.com/schemas/regions/' "
    "xmlns:stArea='http://ns.adobe.com/xmp/sType/Area#' xmlns:stDim='http://ns.adobe.com/xap/1.0/sType/Dimensions#'"
)

# As ExifTool, digiKam and darktable write it: properties are elements.
ELEMENTS = f"""<?xpacket begin='\ufeff' id='W5M0MpCehiHzreSzNTczkc9d'?>
<x:xmpmeta xmlns:x='adobe:ns:meta/'><!-- by hand -->
<rdf:RDF {RDF}>
 <rdf:Description rdf:about='uuid:1' xmlns:dc='http://purl.org/dc/elements/1.1/'>
  <dc:subject><rdf:Bag><rdf:li>Strand, Öland</rdf:li></rdf:Bag></dc:subject>
 </rdf:Description>
 <rdf:Description rdf:about='uuid:1' {MWG}>
  <mwg-rs:Regions rdf:parseType='Resource'>
   <mwg-rs:AppliedToDimensions rdf:parseType='Resource'>
    <stDim:h>400</stDim:h><stDim:unit>pixel</stDim:unit><stDim:w>600</stDim:w>
   </mwg-rs:AppliedToDimensions>
   <mwg-rs:RegionList>
    <rdf:Bag>
     <rdf:li rdf:parseType='Resource'>
      <mwg-rs:Area rdf:parseType='Resource'>
       <stArea:h>0.25</stArea:h><stArea:unit>normalized</stArea:unit>
       <stArea:w>0.125</stArea:w><stArea:x>0.75</stArea:x><stArea:y>0.5</stArea:y>
      </mwg-rs:Area>
      <mwg-rs:Name>Bob</mwg-rs:Name>
      <mwg-rs:Type>Face</mwg-rs:Type>
     </rdf:li>
    </rdf:Bag>
   </mwg-rs:RegionList>
  </mwg-rs:Regions>
 </rdf:Description>
</rdf:RDF>
</x:xmpmeta>
<?xpacket end='w'?>
"""
# As Adobe writes it: properties are attributes, structures are descriptions, and prefixes may be any.
ATTRIBUTES = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<r:Description r:about="" xmlns:m="http://www.metadataworkinggroup.com/schemas/regions/" xmlns:crs="urn:x" crs:Tint="+5"
 xmlns:a="http://ns.adobe.com/xmp/sType/Area#" xmlns:d="http://ns.adobe.com/xap/1.0/sType/Dimensions#">
<m:Regions><r:Description><m:AppliedToDimensions d:w="600" d:h="400" d:unit="pixel"/><m:RegionList><r:Bag>
<r:li><r:Description m:Name="Bob" m:Type="Face"><m:Area a:x="0.75" a:y="0.5" a:w="0.125" a:h="0.25" a:unit="normalized"/>
</r:Description></r:li></r:Bag></m:RegionList></r:Description></m:Regions></r:Description></r:RDF></x:xmpmeta>"""
WITHOUT_REGIONS = f"""<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF {RDF}>
<rdf:Description rdf:about='' xmlns:xmp='http://ns.adobe.com/xap/1.0/' xmp:Rating='4'/></rdf:RDF></x:xmpmeta>"""
PACKETS = {"elements": ELEMENTS, "attributes": ATTRIBUTES, "without regions": WITHOUT_REGIONS}


def names(packet):
    return [region.name for region in read_regions(packet).regions]


@pytest.mark.parametrize("packet", [ELEMENTS, ATTRIBUTES])
def test_regions_are_read_in_every_form(packet):
    found = read_regions(packet.encode())
    assert found.regions == [BOB] and found.size == SIZE
    assert not found.regions[0].is_ours


@pytest.mark.parametrize("name", PACKETS)
def test_regions_come_and_go_without_a_trace(name):
    packet = PACKETS[name].encode()
    written = with_own_regions(packet, [ANN], SIZE)
    found = read_regions(written)
    assert [(region.name, region.area, region.is_ours) for region in found.regions][-1] == (ANN.name, ANN.area, True)
    assert found.size == SIZE
    assert with_own_regions(written, [ANN], SIZE) == written
    renamed = with_own_regions(written, [BOB], SIZE)
    assert names(renamed)[-1] == "Bob" and len(names(renamed)) == len(names(packet)) + 1
    assert with_own_regions(renamed, [], SIZE) == packet


def test_a_new_packet():
    written = with_own_regions(EMPTY_PACKET, [ANN, BOB], SIZE)
    assert names(written) == [ANN.name, "Bob"] and read_regions(written).size == SIZE
    assert with_own_regions(written, [], SIZE) == EMPTY_PACKET


def test_a_region_whose_name_was_changed_is_no_longer_ours():
    written = with_own_regions(EMPTY_PACKET, [BOB], SIZE)
    changed = written.replace(b"<mwg-rs:Name>Bob<", b"<mwg-rs:Name>Rob<")
    assert [(region.name, region.is_ours) for region in read_regions(changed).regions] == [("Rob", False)]
    assert names(with_own_regions(changed, [], SIZE)) == ["Rob"]


def test_a_packet_without_content_gets_some():
    packet = f"<rdf:RDF {RDF} />".encode()
    written = with_own_regions(packet, [BOB], SIZE)
    assert names(written) == ["Bob"]


@pytest.mark.parametrize(
    "packet",
    [
        "",
        "no XML",
        ELEMENTS[: len(ELEMENTS) // 2],
        "<html/>",
        "<!DOCTYPE a [<!ENTITY b 'c'>]>" + WITHOUT_REGIONS,
        "<?xml version='1.0' encoding='ISO-8859-1'?>" + WITHOUT_REGIONS,
    ],
)
def test_what_is_no_xmp_is_refused(packet):
    with pytest.raises(ValueError):
        with_own_regions(packet.encode(), [BOB], SIZE)
    with pytest.raises(ValueError):
        with_own_regions(WITHOUT_REGIONS.encode("utf-16"), [BOB], SIZE)


@pytest.mark.parametrize("area", ["0.75", "x", "nan", "-1"])
def test_regions_without_a_usable_area_are_left_out(area):
    assert names(ATTRIBUTES.replace('a:w="0.125"', f'a:w="{area}"').encode()) == (["Bob"] if area == "0.75" else [])
    assert names(ATTRIBUTES.replace("normalized", "pixel").encode()) == []


def test_a_packet_that_is_nested_deeply_or_expands_does_no_harm():
    deep = 100_000
    packet = WITHOUT_REGIONS.replace("</rdf:RDF>", "<a>" * deep + "</a>" * deep + "</rdf:RDF>").encode()
    assert with_own_regions(with_own_regions(packet, [BOB], SIZE), [], SIZE) == packet
