"""Configs as plain values."""

from __future__ import annotations

from typing import cast

from omegaconf import DictConfig, OmegaConf

from detlab.engine.run_folder import Config


def plain(cfg: DictConfig) -> Config:
    """A config with its interpolations resolved, as mappings, lists and plain values."""
    return cast(Config, OmegaConf.to_container(cfg, resolve=True))


def resolved(cfg: DictConfig) -> DictConfig:
    """A copy of a config with its interpolations resolved, to be changed."""
    return DictConfig(plain(cfg))
