"""Properties of ParaView's panels as the XML that a plugin puts on its classes: text only, ParaView is not needed."""

from __future__ import annotations

from collections.abc import Sequence

from neurcomp_core.nets.backends import NAMES
from neurcomp_filters import settings


def entries(kind: str, values: Sequence[str]) -> str:
    """Entries of an enumeration or of a list of strings."""
    if kind == "Entry":
        return "".join(f'<Entry value="{i}" text="{text}"/>' for i, text in enumerate(values))
    return "".join(f'<String value="{value}"/>' for value in values)


def shown_if(name: str, value: object) -> str:
    """Hint that shows a property's widget only while another property has a value."""
    return (
        '<Hints><PropertyWidgetDecorator type="GenericDecorator" mode="visibility" '
        f'property="{name}" value="{value}"/></Hints>'
    )


def flag(name: str, label: str, default: int, documentation: str, level: str = "default") -> str:
    """A check box."""
    return f"""
    <IntVectorProperty name="{name}" label="{label}" command="Set{name}" number_of_elements="1"
        default_values="{default}" panel_visibility="{level}">
      <BooleanDomain name="bool"/>
      <Documentation>{documentation}</Documentation>
    </IntVectorProperty>"""


def integer(
    name: str, label: str, default: int, low: int, high: int, documentation: str, level: str = "advanced"
) -> str:
    """A whole number within limits."""
    return f"""
    <IntVectorProperty name="{name}" label="{label}" command="Set{name}" number_of_elements="1"
        default_values="{default}" panel_visibility="{level}">
      <IntRangeDomain name="range" min="{low}" max="{high}"/>
      <Documentation>{documentation}</Documentation>
    </IntVectorProperty>"""


def choice(name: str, values: Sequence[str], documentation: str, level: str = "default") -> str:
    """One of several texts, the first by default."""
    return f"""
    <StringVectorProperty name="{name}" command="Set{name}" number_of_elements="1" default_values="{values[0]}"
        panel_visibility="{level}">
      <StringListDomain name="list">{entries("String", values)}</StringListDomain>
      <Documentation>{documentation}</Documentation>
      <Hints><NoDefault/></Hints>
    </StringVectorProperty>"""


def device() -> str:
    """Where to compute."""
    return choice("Device", ["auto", "cpu", "cuda"], "Where to compute; auto takes CUDA if present.", "advanced")


def backend() -> str:
    """What computes networks."""
    return choice("Backend", NAMES, "What computes networks; auto takes the fastest that is there.", "advanced")


def target_value(index: int, name: str, label: str, documentation: str) -> str:
    """The value of one kind of target, shown while that kind is chosen."""
    default = settings.DEFAULTS[settings.TARGETS[index][0]]
    return f"""
    <DoubleVectorProperty name="{name}" label="{label}" command="Set{name}" number_of_elements="1"
        default_values="{default:g}">
      <DoubleRangeDomain name="range" min="0"/>
      <Documentation>{documentation}</Documentation>
      {shown_if("Target", index)}
    </DoubleVectorProperty>"""


def arrays(association: str) -> str:
    """Check boxes for the arrays of the input."""
    label = f"{association} Arrays"
    return f"""
    <StringVectorProperty name="{association}DataArrays" label="{label}" number_of_elements_per_command="1"
        command="Get{association}DataArraySelection" repeat_command="1"
        si_class="vtkSIDataArraySelectionProperty">
      <ArrayListDomain name="array_list" input_domain_name="{association.lower()}_arrays">
        <RequiredProperties><Property name="Input" function="Input"/></RequiredProperties>
      </ArrayListDomain>
      <Documentation>{association} data arrays to use.</Documentation>
      <Hints><ArraySelectionWidget icon_type="{association.lower()}"/></Hints>
    </StringVectorProperty>"""


def data_input(name: str = "Input", port: int = 0, documentation: str = "The data set to compress.") -> str:
    """An input that takes any data set, so that an unfit one gets an explanation instead of a grey menu entry."""
    return f"""
    <InputProperty name="{name}" label="{name}" port_index="{port}" command="SetInputConnection">
      <ProxyGroupDomain name="groups"><Group name="sources"/><Group name="filters"/></ProxyGroupDomain>
      <DataTypeDomain name="input_type" composite_data_supported="1"><DataType value="vtkDataSet"/></DataTypeDomain>
      <InputArrayDomain name="point_arrays" attribute_type="point" optional="1"/>
      <InputArrayDomain name="cell_arrays" attribute_type="cell" optional="1"/>
      <Documentation>{documentation}</Documentation>
    </InputProperty>"""


def vector(name: str, label: str, default: str, documentation: str, level: str = "default", hints: str = "") -> str:
    """Numbers, such as a place or a colour; `default` is a text."""
    return f"""
    <DoubleVectorProperty name="{name}" label="{label}" command="Set{name}" default_values="{default}"
        number_of_elements="{len(default.split())}" panel_visibility="{level}">
      <Documentation>{documentation}</Documentation>
      {hints}
    </DoubleVectorProperty>"""


def array(name: str, label: str, default: str, documentation: str) -> str:
    """The name of one array of the input, or none; at first `default`, which the input need not have."""
    return f"""
    <StringVectorProperty name="{name}" label="{label}" command="Set{name}" number_of_elements="1"
        default_values="{default}">
      <ArrayListDomain name="array_list" input_domain_name="arrays" none_string="None">
        <RequiredProperties><Property name="Input" function="Input"/></RequiredProperties>
      </ArrayListDomain>
      <Documentation>{documentation}</Documentation>
      <Hints><NoDefault/></Hints>
    </StringVectorProperty>"""


def button(name: str, label: str, documentation: str, hints: str = "") -> str:
    """What calls a method of the algorithm."""
    return f"""
    <Property name="{name}" label="{label}" command="{name}" panel_widget="command_button">
      <Documentation>{documentation}</Documentation>
      {hints}
    </Property>"""


def group(label: str, *names: str) -> str:
    """A titled group in the panel."""
    listed = "".join(f'<Property name="{name}"/>' for name in names)
    return f'<PropertyGroup label="{label}">{listed}</PropertyGroup>'
