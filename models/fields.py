"""The names that tables are defined with: pydantic's, or ``models.plain``'s in a running agent.

``models`` and ``agent`` import these names from here only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models import plain

if TYPE_CHECKING or not plain.chosen:
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
    from models.plain import AfterValidator as AfterValidator
    from models.plain import BaseModel as BaseModel
    from models.plain import ConfigDict as ConfigDict
    from models.plain import Discriminator as Discriminator
    from models.plain import Field as Field
    from models.plain import SerializerFunctionWrapHandler as SerializerFunctionWrapHandler
    from models.plain import Tag as Tag
    from models.plain import ValidationError as ValidationError
    from models.plain import ValidationInfo as ValidationInfo
    from models.plain import field_validator as field_validator
    from models.plain import model_serializer as model_serializer
    from models.plain import model_validator as model_validator
