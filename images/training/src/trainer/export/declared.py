"""The feature declaration of a model, read back from its contract."""

from trainer.data.declaration import CategoricalFeature, Feature, FeatureDeclaration, NumericFeature, OtherCategories
from trainer.data.declaration import Target as DeclaredTarget
from trainer.data.master_scale import DeclaredGrade
from trainer.export.contract import Contract, FeatureContract, NumericContract

_TARGET = "outcome"
_OF_TRAINING_ROWS = {"training_minimum", "training_maximum", "missing", "other"}


def declaration_of(contract: Contract) -> FeatureDeclaration:
    """Return a declaration by which another model with the same contract can be trained.

    The target is the decisions service's: the column `outcome` (or `_outcome`, if that is a feature) with the labels
    `repaid` and `defaulted`. A contract does not say whether categories without a direction have an order; here they
    have none.
    """
    taken = {feature.name for feature in contract.features} | {*contract.ignored}
    column = next(name for name in (_TARGET, *("_" * n + _TARGET for n in range(1, len(taken) + 2)))
                  if name not in taken)  # fmt: skip
    return FeatureDeclaration(
        target=DeclaredTarget(column=column, default=("defaulted",), repaid=("repaid",)),
        features=tuple(_feature(feature) for feature in contract.features),
        ignored=contract.ignored,
        grades=tuple(
            DeclaredGrade(name=grade.name, upper_probability=grade.upper_probability) for grade in contract.grades
        ),
    )


def _feature(feature: FeatureContract) -> Feature:
    shared = feature.model_dump(exclude=_OF_TRAINING_ROWS) | {"missing": "allowed" if feature.missing else "refused"}
    if isinstance(feature, NumericContract):
        return NumericFeature(**shared)
    other = OtherCategories() if feature.other else None
    return CategoricalFeature(**shared, other=other, ordered=feature.monotonic is not None)
