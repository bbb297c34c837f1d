from __future__ import annotations

from pathlib import Path

import pytest

from mclip.errors import RecipeError
from mclip.recipe import Recipe, load_recipe, recipe_from_dict, recipe_to_dict

RECIPES = sorted((Path(__file__).parents[1] / "recipes").rglob("recipe*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.parent.name)
def test_every_recipe_in_the_repository_loads(path: Path) -> None:
    assert load_recipe(path).name


def test_a_recipe_survives_the_way_through_json() -> None:
    recipe = recipe_from_dict({"name": "x", "data": {"exclude": ["a"], "speed": [1, 2]}, "loss": {"contrast": 1}})
    assert recipe.data.speed == (1.0, 2.0)
    assert recipe_from_dict(recipe_to_dict(recipe)) == recipe


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "name is missing"),
        ({"name": " "}, "name must be letters"),
        ({"name": "../x"}, "name must be letters"),
        ({"name": "x", "optim": {"lr": float("nan")}}, "optim.lr must be a finite number"),
        ({"name": "x", "modle": {}}, "unknown key modle"),
        ({"name": "x", "model": {"widht": 8}}, "unknown key model.widht"),
        ({"name": "x", "model": {"width": 8.5}}, "model.width must be int"),
        ({"name": "x", "model": {"width": True}}, "model.width must be int"),
        ({"name": "x", "model": {"width": 30, "heads": 4}}, "model.width must be a multiple"),
        ({"name": "x", "model": 3}, "model must be a table"),
        ({"name": "x", "data": {"speed": [1.0]}}, "data.speed must be a list of 2"),
        ({"name": "x", "data": {"exclude": "cmu"}}, "data.exclude must be a list"),
        ({"name": "x", "loss": {"text": -1.0}}, "loss.text must not be negative"),
        ({"name": "x", "optim": {"steps": 10, "warmup": 11}}, "optim.warmup"),
        ({"name": "x", "text_space": "clip"}, "text_space must be one of"),
        ({"name": "x", "seed": -1}, "seed must lie"),
    ],
)
def test_a_wrong_recipe_names_the_key(table: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe_from_dict(table)


def test_a_misspelt_key_gets_a_suggestion() -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_from_dict({"name": "x", "model": {"widht": 8}})
    assert caught.value.hint == "did you mean model.width?"


def test_unreadable_files_are_recipe_errors(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such file"):
        load_recipe(tmp_path / "none.toml")
    bad = tmp_path / "bad.toml"
    for content in (b"name = ", b"\xff\xfe", b"x = " + b"[" * 5000 + b"]" * 5000):
        bad.write_bytes(content)
        with pytest.raises(RecipeError, match=r"bad\.toml"):
            load_recipe(bad)


def test_defaults_are_a_valid_recipe() -> None:
    assert Recipe(name="x").model.width % Recipe(name="x").model.heads == 0
