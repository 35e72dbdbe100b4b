"""The README.md of a trained classifier: a Hugging Face model card."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import ModelCardData

CARD = """---
{metadata}
---

# {name}

An image classifier of {count} classes ({classes}) that also says how sure it is that an image is none of them.
Trained by Penumbra with the recipe `{name}`, seed {seed}: {recipe}.

- Input: {channels}-channel images in 0..1; the model normalises them itself.
- On ID validation images: {accuracy:.1%} right.
- `detector.json`: an image is unknown where its {score} score (larger is more OOD) is above {threshold:.6g}; that lets
  {rate:.0%} of the ID validation images pass (`id_pass_rate`).

```python
from pipeline.learning.networks import Classifier

model = Classifier.from_pretrained("FOLDER").eval()
logits, features = model(images)  # (n, channels, height, width) in 0..1
```

The weights are safetensors; nothing is pickled. A threshold set on ID images says nothing about how much of what is
unknown it catches: see the report for that.
"""


def model_card(
    about: Mapping[str, Any], classes: Sequence[str], channels: int, detector: Mapping[str, Any], accuracy: float
) -> str:
    """The card of one classifier.

    Args:
        about: `recipe`, its name; `seed`; `settings`, what the recipe asks for.
        detector: the content of detector.json.
        accuracy: on ID validation images, 0..1.
    """
    metadata = ModelCardData(
        library_name="penumbra", tags=["out-of-distribution-detection"], pipeline_tag="image-classification"
    )
    return CARD.format(
        metadata=metadata.to_yaml(),
        name=about["recipe"],
        seed=about["seed"],
        count=len(classes),
        classes=", ".join(classes),
        channels=channels,
        recipe=json.dumps(about["settings"], sort_keys=True),
        accuracy=accuracy,
        score=detector["score"],
        threshold=detector["threshold"],
        rate=detector["id_pass_rate"],
    )
