"""croissant.json: an outlier dataset as MLCommons Croissant, with the fields of its vocabulary of responsible AI."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.artifacts import datasheet
from pipeline.artifacts.outliers import INDEX, REJECTED
from pipeline.runtime.files import sha256, write_json

CONFORMS_TO = ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"]
TYPES = {"string": "TEXT", "int64": "INTEGER", "float": "FLOAT"}  # of a column -> of `mlcroissant.DataType`


def write(folder: Path, about: Mapping[str, Any]) -> None:
    """Write croissant.json beside the shards, index.parquet and rejected.parquet of a dataset.json.

    `mlcroissant.Dataset(FOLDER/croissant.json).records("samples")` iterates images with their rows of the index.
    """
    import mlcroissant as mlc  # here, for it takes half a second to import

    tables = [
        _file(mlc, name, "application/x-parquet", sha256(folder / name))
        for name in ("index.parquet", "rejected.parquet")
    ]
    shards = [_file(mlc, shard["name"], "application/x-tar", shard["sha256"]) for shard in about["shards"]]
    pngs = mlc.FileSet(
        id="pngs", name="pngs", contained_in=[shard.id for shard in shards], includes=["*.png"],
        encoding_formats=["image/png"],
    )  # fmt: skip
    rejected = mlc.RecordSet(id="rejected", name="rejected", fields=_columns(mlc, "rejected", REJECTED))
    metadata = mlc.Metadata(
        name=f"penumbra-{about['name']}",
        description=f"{datasheet.PURPOSES[about['name']]} {datasheet.collection(about)}",
        license=[about["licence"]],
        cite_as=datasheet.CITATION,
        version=__version__,
        conforms_to=CONFORMS_TO,
        distribution=[*tables, *shards, *([pngs] if shards else [])],
        record_sets=[*([_samples(mlc)] if shards else []), rejected],
        **_responsible_ai(about),
    )
    write_json(folder / "croissant.json", metadata.to_json())


def _file(mlc: Any, name: str, kind: str, digest: str) -> Any:
    return mlc.FileObject(id=name, name=name, content_url=name, encoding_formats=[kind], sha256=digest)


def _columns(mlc: Any, table: str, schema: Any) -> list[Any]:
    """A field for each column of a table but its key."""
    return [
        mlc.Field(
            id=f"{table}/{column.name}",
            name=column.name,
            data_types=getattr(mlc.DataType, TYPES[str(column.type)]),
            source=mlc.Source(file_object=f"{table}.parquet", extract=mlc.Extract(column=column.name)),
        )
        for column in schema
        if column.name != "key"
    ]


def _samples(mlc: Any) -> Any:
    """Each image with its row of the index, which has the number in its file's name."""

    def of_file(what: Any, **options: Any) -> Any:
        return mlc.Source(file_set="pngs", extract=mlc.Extract(file_property=what), **options)

    of_index = mlc.Source(file_object="index.parquet", extract=mlc.Extract(column="key"))
    number = of_file(mlc.FileProperty.filename, transforms=[mlc.Transform(regex=r"^(\d+)")])
    key = mlc.Field(id="index/key", name="key", data_types=mlc.DataType.TEXT, source=number, references=of_index)
    content = of_file(mlc.FileProperty.content)
    image = mlc.Field(id="index/image", name="image", data_types=mlc.DataType.IMAGE_OBJECT, source=content)
    fields = [key, image, *_columns(mlc, "index", INDEX)]
    return mlc.RecordSet(id="samples", name="samples", key="index/key", fields=fields)


def _responsible_ai(about: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "data_collection": datasheet.collection(about),
        "data_collection_type": ["Synthetic data"],
        "machine_annotation_tools": ["the filters and the teacher whose settings dataset.json holds"],
        "data_use_cases": [datasheet.USES, datasheet.MISUSES],
        "data_limitations": [datasheet.LIMITS],
        "data_biases": [datasheet.BIASES],
        "personal_sensitive_information": [datasheet.SENSITIVE],
        "data_release_maintenance_plan": datasheet.MAINTENANCE,
    }
