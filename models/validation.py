"""The names for defining tables: pydantic's, or those of ``models.unchecked`` in a running agent.

``models`` and ``agent`` import these names from here only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models import unchecked

if TYPE_CHECKING or not unchecked.chosen:
    from pydantic import AfterValidator as AfterValidator
    from pydantic import BaseModel as BaseModel
    from pydantic import ConfigDict as ConfigDict
    from pydantic import Discriminator as Discriminator
    from pydantic import Field as Field
    from pydantic import SerializerFunctionWrapHandler as SerializerFunctionWrapHandler
    from pydantic import Tag as Tag
    from pydantic import ValidationError as ValidationError
    from pydantic import ValidationInfo as ValidationInfo
    from pydantic import field_validator as field_validator
    from pydantic import model_serializer as model_serializer
    from pydantic import model_validator as model_validator
else:
    from models.unchecked import AfterValidator as AfterValidator
    from models.unchecked import BaseModel as BaseModel
    from models.unchecked import ConfigDict as ConfigDict
    from models.unchecked import Discriminator as Discriminator
    from models.unchecked import Field as Field
    from models.unchecked import SerializerFunctionWrapHandler as SerializerFunctionWrapHandler
    from models.unchecked import Tag as Tag
    from models.unchecked import ValidationError as ValidationError
    from models.unchecked import ValidationInfo as ValidationInfo
    from models.unchecked import field_validator as field_validator
    from models.unchecked import model_serializer as model_serializer
    from models.unchecked import model_validator as model_validator
