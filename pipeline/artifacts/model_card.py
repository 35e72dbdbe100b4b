"""The README.md of a trained classifier: a Hugging Face model card."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import ModelCardData

from pipeline.artifacts.detector import Detector

CARD = """---
{metadata}
---

# {name}

An image classifier of {count} classes ({classes}) that also says how sure it is that an image is none of them.
Trained by Penumbra with the recipe `{name}`, seed {seed}: {recipe}.

- Input: photographs turned upright by their EXIF orientation, as {colour}, the shorter side resized to {resize} pixels
  (bilinear, antialiased, as Pillow does), the {size} x {size} pixels in the middle, in 0..1. The model normalises them
  itself.
- On ID validation images: {accuracy:.1%} right.
- `detector.safetensors`: the {score} scores (larger is more OOD) of {validation} ID validation images. An image's
  p-value is the share of them, itself included, that score at least as high. It is unknown where that is at most
  {false_alarms:g} (`detector.json`): about {false_alarms:.0%} of ID images are.

`penumbra predict PHOTOS --model FOLDER` does all of it. In Python:

```python
import numpy as np
import torch
from pipeline import Classifier, Preprocess
from PIL import Image, ImageOps

photo = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")
preprocess = Preprocess(resize={resize}, size={size}, channels={channels})
model = Classifier.from_pretrained("FOLDER").eval()
logits, features = model(preprocess(torch.from_numpy(np.array(photo))[None]))
```

`penumbra export classifier.onnx --model FOLDER` writes all of it, resize and crop too, into one graph, for which Pillow
and onnxruntime are enough:

```python
import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession("classifier.onnx")
photo = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")
asked = {{"images": np.asarray(photo)[None], "false_alarms": np.array({false_alarms:g})}}
probabilities, score, p_value, unknown, part_p_values = session.run(None, asked)
```

The weights are safetensors; nothing is pickled. A rate of false alarms says nothing about how much of what is unknown
is caught: see the report for that.
"""


def model_card(
    about: Mapping[str, Any],
    classes: Sequence[str],
    form: tuple[int, int, int],
    detector: Detector,
    accuracy: float,
) -> str:
    """The card of one classifier.

    Args:
        about: `recipe`, its name; `seed`; `settings`, what the recipe asks for.
        form: of the images: resize (the shorter side in pixels), size of the crop, channels.
        detector: its score, and its values on ID validation images.
        accuracy: on ID validation images, 0..1.
    """
    resize, size, channels = form
    metadata = ModelCardData(
        library_name="penumbra", tags=["out-of-distribution-detection"], pipeline_tag="image-classification"
    )
    return CARD.format(
        metadata=metadata.to_yaml(),
        name=about["recipe"],
        seed=about["seed"],
        count=len(classes),
        classes=", ".join(classes),
        colour="grey (luma of ITU-R 601-2)" if channels == 1 else "RGB",
        channels=channels,
        resize=resize,
        size=size,
        recipe=json.dumps(about["settings"], sort_keys=True),
        accuracy=accuracy,
        score=detector.settings.name,
        false_alarms=detector.settings.false_alarms,
        validation=len(detector.id_scores),
    )
