"""HDR to SDR: frames in PQ or HLG become BT.709 that looks right on an ordinary screen, and to networks.

Steps, for values from 0 to 1 of each channel:

1. signal to light in cd/m2 (ITU-R BT.2100): the PQ EOTF, or the HLG inverse OETF and OOTF of a screen of 1,000 cd/m2;
2. divided by 203 cd/m2, the brightness of a white sheet in HDR video (ITU-R BT.2408, "HDR reference white");
3. highlights compressed by a knee: up to 0.6 unchanged, above it the extended Reinhard curve (Reinhard et al. 2002,
   equation 4), so that 1,000 cd/m2 become 1. It is applied to the largest channel, and the others are scaled with it,
   which keeps the hue;
4. primaries of BT.2020 to those of BT.709 by a matrix, values outside clipped (ITU-R BT.2407, section 2);
5. gamma 2.4 of an SDR screen (ITU-R BT.1886), 8 bits.
"""

import functools

import cv2
import numpy as np

PEAK = 1000.0  # cd/m2: brighter light becomes white
REFERENCE_WHITE = 203.0  # cd/m2
KNEE = 0.6  # of the reference white
TRANSFERS = {16: "PQ", 18: "HLG"}  # by the number in ITU-T H.273, as FFmpeg gives it
LUMINANCE_2020 = np.array([[0.2627, 0.6780, 0.0593]], np.float32)
TO_709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32)
TABLE_BITS = 12  # of a table of signals; HDR video has 10 or 12
STRIP_PIXELS = 2**16  # converted at a time: temporary arrays stay in the cache


def to_sdr(signal: np.ndarray, transfer: str) -> np.ndarray:
    """HDR pixels as SDR pixels.

    Args:
        signal: (H, W, 3) uint16 R'G'B' of BT.2020 over the full range, 0 to 65,535.
        transfer: "PQ" or "HLG".

    Returns:
        (H, W, 3) uint8 R'G'B' of BT.709.
    """
    result = np.empty(signal.shape, np.uint8)
    rows = max(1, STRIP_PIXELS // signal.shape[1])
    for top in range(0, len(signal), rows):
        light = _light_table(transfer)[signal[top : top + rows] >> (16 - TABLE_BITS)]
        if transfer == "HLG":
            light *= np.power(cv2.transform(light, LUMINANCE_2020), 0.2)[..., None]  # OOTF: system gamma 1.2
            light *= PEAK / REFERENCE_WHITE
        brightest = light.max(axis=2, keepdims=True)
        light *= compress(brightest) / np.maximum(brightest, 1e-9)
        sdr = np.clip(cv2.transform(light, TO_709), 0, 1)
        result[top : top + rows] = _code_table()[(sdr * 65_535).astype(np.uint16)]
    return result


def compress(light: np.ndarray) -> np.ndarray:
    """The knee: light in units of the reference white, to 0 up to 1. Continuous, as is its slope."""
    white = (PEAK / REFERENCE_WHITE - KNEE) / (1 - KNEE)
    excess = np.clip((light - KNEE) / (1 - KNEE), 0, white)
    return np.minimum(light, KNEE) + (1 - KNEE) * excess * (1 + excess / white**2) / (1 + excess)


@functools.cache
def _light_table(transfer: str) -> np.ndarray:
    """float32: for each signal of `TABLE_BITS` bits its light; PQ in units of the reference white, HLG before OOTF."""
    signal = np.linspace(0, 1, 2**TABLE_BITS)
    if transfer == "PQ":
        power = signal ** (32 / 2523)
        light = (np.maximum(power - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * power)) ** (16384 / 2610)
        return (light * 10_000 / REFERENCE_WHITE).astype(np.float32)
    a = 0.17883277
    b = 1 - 4 * a
    c = 0.5 - a * np.log(4 * a)
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12).astype(np.float32)


@functools.cache
def _code_table() -> np.ndarray:
    """uint8: the signal of BT.1886 for light in steps of 1/65,535."""
    return np.round(255 * np.linspace(0, 1, 65_536) ** (1 / 2.4)).astype(np.uint8)
