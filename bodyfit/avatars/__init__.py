"""Textured avatars: a body's surface moved out to the clothes, with the colours of the pictures in its texture."""

from bodyfit.avatars.avatar import Avatar
from bodyfit.avatars.make import make_avatar
from bodyfit.avatars.view import AvatarView

__all__ = ["Avatar", "AvatarView", "make_avatar"]
