"""NeurComp in ParaView: decorators and properties, nothing else. What they do is in the package neurcomp_filters.

Load it through Tools ▸ Manage Plugins, or point PV_PLUGIN_PATH at this folder. The properties are XML on the class, as
ParaView before 5.13 would sort decorated methods by name.
"""

import importlib.util
import site
from pathlib import Path

from paraview.util.vtkAlgorithm import smhint, smproperty, smproxy
from vtkmodules.vtkCommonCore import vtkOutputWindow

if importlib.util.find_spec("neurcomp_filters") is None:
    # The tree that cmake --install makes.
    site.addsitedir(str(Path(__file__).absolute().parent.parent / "python"))

try:
    from neurcomp_filters import (
        compare,
        compare_codecs,
        compress,
        radiance_compress,
        radiance_file,
        radiance_image,
        radiance_input,
        radiance_render,
        rate_distortion,
        reader,
        regions,
        settings,
        writer,
    )
    from neurcomp_filters.properties import (
        array,
        arrays,
        backend,
        button,
        choice,
        data_input,
        device,
        entries,
        flag,
        group,
        integer,
        shown_if,
        target_value,
        vector,
    )
except ImportError as error:
    # ParaView shows nothing of a plugin that cannot be imported.
    vtkOutputWindow.GetInstance().DisplayErrorText(
        "ERROR: In NeurComp.py, line 0\nNeurComp (0x0): the plugin needs NeurComp's Python packages, which ParaView "
        f"does not find ({error}); start it with: neurcomp paraview\n\n"
    )
    raise

paraview_plugin_name = "NeurComp"
paraview_plugin_version = "0.1.0"

MENU = '<ShowInMenu category="Neural Compression"/>'

FILE_SIZE = "Bytes the file takes, everything included; 97-100 % of it is used."
TARGET = "".join(
    [
        f"""
    <IntVectorProperty name="Target" command="SetTargetKind" number_of_elements="1" default_values="0">
      <EnumerationDomain name="enum">{entries("Entry", [text for _, text in settings.TARGETS])}</EnumerationDomain>
      <Documentation>What to reach: a size of the file or a quality of its reconstruction. Either it is met,
        or there is an error that says what can be reached.</Documentation>
    </IntVectorProperty>""",
        target_value(0, "Ratio", "Ratio", "Bytes of the arrays in memory / bytes of the file; 97-100 % is used."),
        target_value(1, "PSNR", "PSNR", "At least so many dB: 20 log10(range / RMSE), range = max - min."),
        target_value(2, "MaximumError", "Maximum Error", "No sample is off by more, in the units of the data."),
        target_value(3, "RelativeError", "Relative Error", "No sample is off by more than this times the range."),
        target_value(4, "FileSize", "File Size", FILE_SIZE),
        group("Target", "Target", "Ratio", "PSNR", "MaximumError", "RelativeError", "FileSize"),
    ]
)
COMPRESSION = "".join(
    [
        TARGET,
        choice("Codec", settings.codec_choices(), "The method of compression; auto takes the best for the data."),
        choice("Preset", settings.preset_names(), "How long to work for it: longer runs give better files."),
        """
    <DoubleVectorProperty name="TimeLimit" label="Time Limit" command="SetTimeLimit" number_of_elements="1"
        default_values="0">
      <DoubleRangeDomain name="range" min="0"/>
      <Documentation>Seconds after which to stop with the best result so far, which may miss the target; 0 for no
        limit.</Documentation>
    </DoubleVectorProperty>""",
        device(),
        backend(),
        integer("Threads", "Threads", 0, 0, 1024, "CPU threads; 0 for all, or one per process of a parallel run."),
        integer("Seed", "Seed", 0, 0, 2**31 - 1, "Same seed, same data, same bytes."),
        """
    <StringVectorProperty name="CodecParameters" label="Codec Parameters" command="SetCodecParameters"
        number_of_elements="1" default_values="" panel_visibility="advanced">
      <Documentation>Parameters of the codec that replace those of the preset: name=value, separated by blanks. The
        command "neurcomp codecs" lists them.</Documentation>
    </StringVectorProperty>""",
        flag(
            "KeepBest", "Keep Best", 0, "Write the file also when the time limit ended the run early.", "advanced"
        ),
        flag(
            "Residual", "Residual", 0, "Neural codecs: code what the network misses, too, so that any target is met.",
            "advanced",
        ),
        group("Codec", "Codec", "Preset", "Residual", "CodecParameters"),
        group("Run", "TimeLimit", "Device", "Backend", "Threads", "Seed", "KeepBest"),
    ]
)  # fmt: skip

REGIONS = "".join(
    [
        f"""
    <IntVectorProperty name="RegionMode" label="Region Mode" command="SetRegionMode" number_of_elements="1"
        default_values="0">
      <EnumerationDomain name="enum">{entries("Entry", regions.MODES)}</EnumerationDomain>
      <Documentation>Where errors should be smaller than elsewhere: for a size the rest pays for it; for a
        quality, that of the whole array, the file grows. Codecs: auto, wavelet, hashgrid, siren.</Documentation>
    </IntVectorProperty>
    <DoubleVectorProperty name="RegionBounds" label="Region Bounds" command="SetRegionBounds" number_of_elements="6"
        default_values="0 1 0 1 0 1">
      <BoundsDomain name="range" mode="data_bounds">
        <RequiredProperties><Property name="Input" function="Input"/></RequiredProperties>
      </BoundsDomain>
      <Documentation>Least and largest x, y and z of the box, in world coordinates.</Documentation>
      {shown_if("RegionMode", 1)}
    </DoubleVectorProperty>
    <DoubleVectorProperty name="RegionBand" label="Region Band" command="SetRegionBand" number_of_elements="2"
        default_values="0 1">
      <Documentation>Least and largest value of the samples that matter; of vectors their length.</Documentation>
      {shown_if("RegionMode", 2)}
    </DoubleVectorProperty>
    <StringVectorProperty name="RegionArray" label="Region Array" command="SetRegionArray" number_of_elements="1">
      <ArrayListDomain name="array_list" input_domain_name="point_arrays" none_string="None">
        <RequiredProperties><Property name="Input" function="Input"/></RequiredProperties>
      </ArrayListDomain>
      <Documentation>Samples matter the more, the larger this array is there.</Documentation>
      {shown_if("RegionMode", 3)}
    </StringVectorProperty>
    <StringVectorProperty name="TransferFunctionFile" label="Transfer Function File" command="SetTransferFunctionFile"
        number_of_elements="1" default_values="">
      <FileListDomain name="files"/>
      <Documentation>A color map, exported with its opacities (.json): what it shows matters more.</Documentation>
      <Hints>
        <FileChooser extensions="json" file_description="Color Maps"/>
        <PropertyWidgetDecorator type="GenericDecorator" mode="visibility" property="RegionMode" value="4"/>
      </Hints>
    </StringVectorProperty>
    <DoubleVectorProperty name="OpacityPoints" label="Opacity Points" command="AddOpacityPoint"
        clean_command="ClearOpacityPoints" repeat_command="1" number_of_elements_per_command="4"
        panel_visibility="never">
      <Documentation>Instead of that file, from Python: OpacityPoints = GetOpacityTransferFunction("array").Points
        </Documentation>
    </DoubleVectorProperty>
    <DoubleVectorProperty name="RegionWeight" label="Region Weight" command="SetRegionWeight" number_of_elements="1"
        default_values="{regions.WEIGHT:g}">
      <DoubleRangeDomain name="range" min="0" max="4096"/>
      <Documentation>An error there counts as one so many times as large elsewhere.</Documentation>
      <Hints><PropertyWidgetDecorator type="GenericDecorator" mode="visibility" property="RegionMode" value="0"
        inverse="1"/></Hints>
    </DoubleVectorProperty>""",
        group(
            "Regions", "RegionMode", "RegionBounds", "RegionBand", "RegionArray", "TransferFunctionFile", "RegionWeight"
        ),
    ]
)


@smproxy.filter(name="NeuralCompress", label="Neural Compress", support_reload=False)
@smhint.xml(MENU)
@smproperty.xml(
    """
    <Documentation short_help="Compress, and show what is left" long_help="Compress arrays of an image or a rectilinear
      grid to a size or a quality, and show the reconstruction with its measured figures.">
      Compresses the chosen arrays of an image or a rectilinear grid to a given size or quality. The output is the
      reconstruction, decoded from the very bytes of the file; its field data (Information tab, or Spreadsheet View)
      give codec, what else was tried, bytes, ratio, bits per voxel, PSNR, largest error and seconds of each array.
      File ▸ Save Data as .nvc then writes that file.
    </Documentation>"""
    + data_input()
    + arrays("Point")
    + arrays("Cell")
    + COMPRESSION
    + REGIONS
    + flag("ErrorArrays", "Error Arrays", 0, "Add NAME_error = reconstruction - original for each array.")
    + """
    <StringVectorProperty name="FileName" label="File Name" command="SetFileName" number_of_elements="1"
        default_values="" panel_visibility="advanced">
      <FileListDomain name="files"/>
      <Documentation>A .nvc file to write each time the filter runs; steps of a series, blocks of a multiblock and
        pieces of a parallel run get a number. Nothing is written if it is empty.</Documentation>
      <Hints><AcceptAnyFile/><FileChooser extensions="nvc" file_description="NeurComp Files"/></Hints>
    </StringVectorProperty>"""
    + flag(
        "KeepFile", "Keep File", 1, "Keep the compressed bytes in the field data, so that saving the output as .nvc "
        "writes them instead of compressing again.", "advanced",
    )
    + flag(
        "ResampleToImage", "Resample To Image", 0, "Sample inputs that are neither images nor rectilinear grids; "
        "otherwise they are an error.", "advanced",
    )
    + f"""
    <IntVectorProperty name="SamplingDimensions" label="Sampling Dimensions" command="SetSamplingDimensions"
        number_of_elements="3" default_values="100 100 100" panel_visibility="advanced">
      <IntRangeDomain name="range" min="1 1 1"/>
      <Documentation>Samples along x, y and z.</Documentation>
      {shown_if("ResampleToImage", 1)}
    </IntVectorProperty>"""
)  # fmt: skip
class NeuralCompress(compress.NeuralCompress):
    pass


@smproxy.filter(name="VolumeCompare", label="Volume Compare", support_reload=False)
@smhint.xml(MENU)
@smproperty.xml(
    """
    <Documentation short_help="Errors of a reconstruction" long_help="Error arrays and a table of metrics of a
      reconstruction against its original.">
      Compares arrays of the same name. The first output has the difference, the absolute and the relative error of each
      array, the second a table with PSNR, SSIM, RMSE and the largest error.
    </Documentation>"""
    + data_input("Original", 0, "The data set to compare with.")
    + data_input("Reconstruction", 1, "The data set that is judged: same grid, same array names.")
    + (arrays("Point") + arrays("Cell")).replace('name="Input" function', 'name="Original" function')
    + flag("ComputeSSIM", "Compute SSIM", 1, "Structural similarity takes longer than all else.", "advanced")
    + '<OutputPort index="0" name="Errors"/><OutputPort index="1" name="Metrics"/>'
)
class VolumeCompare(compare.VolumeCompare):
    pass


# What filters that try several codecs share with those above, but the codec and what only files need.
SEVERAL = (
    """
    <StringVectorProperty name="CodecInfo" command="GetCodecSelection" information_only="1"
        number_of_elements_per_command="2" si_class="vtkSIDataArraySelectionProperty"/>
    <StringVectorProperty name="CodecStatus" label="Codecs" command="GetCodecSelection"
        information_property="CodecInfo" number_of_elements_per_command="2" element_types="2 0"
        repeat_command="1" si_class="vtkSIDataArraySelectionProperty">
      <ArraySelectionDomain name="array_list">
        <RequiredProperties><Property name="CodecInfo" function="ArrayList"/></RequiredProperties>
      </ArraySelectionDomain>
      <Documentation>Codecs to try. One that fails, or whose package is missing, is left out with a
        warning.</Documentation>
    </StringVectorProperty>"""
    + choice("Preset", settings.preset_names(), "How long to work for it; a codec without such a preset has its own.")
    + """
    <DoubleVectorProperty name="TimeLimit" label="Time Limit" command="SetTimeLimit" number_of_elements="1"
        default_values="0" panel_visibility="advanced">
      <DoubleRangeDomain name="range" min="0"/>
      <Documentation>Seconds for each compression; 0 for no limit.</Documentation>
    </DoubleVectorProperty>"""
    + device()
    + backend()
    + integer("Threads", "Threads", 0, 0, 1024, "CPU threads; 0 for all, or one per process of a parallel run.")
    + integer("Seed", "Seed", 0, 0, 2**31 - 1, "Same seed, same data, same bytes.")
)


@smproxy.filter(name="RateDistortion", label="Rate–Distortion", support_reload=False)
@smhint.xml(MENU + '<View type="XYChartView" port="0"/><View type="SpreadSheetView" port="1"/>')
@smproperty.xml(
    """
    <Documentation short_help="Quality over size, for codecs" long_help="Compress an array with several codecs to
      several targets, and show how good each is at which size.">
      Compresses one array with each chosen codec to each target. The first output is for a line chart: take
      "bits per voxel" for the X axis; each codec has a column of PSNR (dB). The second output has a row per file.
    </Documentation>"""
    + data_input(documentation="The data set to try codecs on.")
    + arrays("Point")
    + arrays("Cell")
    + f"""
    <StringVectorProperty name="Targets" command="SetTargets" number_of_elements="1"
        default_values="{rate_distortion.TARGETS}">
      <Documentation>Sizes or qualities to compress to: ratio:20,50 psnr:40 bytes:10000 max-error:0.1
        relative-error:0.01, separated by blanks.</Documentation>
    </StringVectorProperty>"""
    + SEVERAL
    + '<OutputPort index="0" name="Curves"/><OutputPort index="1" name="Files"/>'
)
class RateDistortion(rate_distortion.RateDistortion):
    pass


@smproxy.filter(name="CompareCodecs", label="Compare Codecs", support_reload=False)
@smhint.xml(MENU)
@smproperty.xml(
    """
    <Documentation short_help="Codecs side by side" long_help="What several codecs leave of an array at one size or
      quality, side by side, with errors and a table.">
      Compresses one array with each chosen codec to one target. The first output has the original and, beside it, a
      block per codec, each with the array and its absolute error; the second output is a table of figures.
    </Documentation>"""
    + data_input(documentation="The data set to try codecs on.")
    + arrays("Point")
    + arrays("Cell")
    + TARGET
    + SEVERAL
    + """
    <DoubleVectorProperty name="Gap" command="SetGap" number_of_elements="1" default_values="0.1"
        panel_visibility="advanced">
      <DoubleRangeDomain name="range" min="0" max="2"/>
      <Documentation>Space between the blocks as a share of their width.</Documentation>
    </DoubleVectorProperty>"""
    + flag("ComputeSSIM", "Compute SSIM", 1, "Structural similarity takes longer than all else.", "advanced")
    + '<OutputPort index="0" name="Side by Side"/><OutputPort index="1" name="Metrics"/>'
)  # fmt: skip
class CompareCodecs(compare_codecs.CompareCodecs):
    pass


# What filters on radiance fields share.
RADIANCE_INPUT = (
    """
    <InputProperty name="Input" command="SetInputConnection">
      <ProxyGroupDomain name="groups"><Group name="sources"/><Group name="filters"/></ProxyGroupDomain>
      <DataTypeDomain name="input_type"><DataType value="vtkDataSet"/></DataTypeDomain>
      <InputArrayDomain name="arrays" attribute_type="any" optional="1"/>
      <Documentation>An image: the output of the reader of .nvc files, or any other with such arrays.</Documentation>
    </InputProperty>"""
    + f"""
    <IntVectorProperty name="From" command="SetFrom" number_of_elements="1" default_values="0">
      <EnumerationDomain name="enum">{entries("Entry", radiance_input.FROM)}</EnumerationDomain>
      <Documentation>What to render. The output of the reader of .nvc files stands for the file's field at its full
        resolution, as long as its arrays are as they were read; all others for their arrays.</Documentation>
    </IntVectorProperty>"""
    + array("DensityArray", "Density Array", radiance_image.DENSITY, "Density per unit length.")
    + array("SphericalHarmonicsArray", "Spherical Harmonics Array", radiance_image.SH, "3, 12, 27, 48 or 75 "
        "coefficients, red's first; comes before the colour.")
    + array("ColorArray", "Color Array", radiance_image.COLOR, "Colour that is the same from everywhere: three floats "
        "from 0 to 1, or unsigned integers.")
    + vector("DensityScale", "Density Scale", "1", "What makes the density one per unit length.", "advanced")
)  # fmt: skip


@smproxy.filter(name="RadianceRender", label="Radiance Render", support_reload=False)
@smhint.xml(MENU)
@smproperty.xml(
    """
    <Documentation short_help="A picture of a radiance field" long_help="Render a radiance field with the colours that
      it has from where one looks.">
      Renders an image with a density and with spherical harmonics or colours, by marching rays. The output is a flat
      image with colour (rgb), opacity and depth. Without a camera the whole is shown; Copy Camera takes that
      of the active view.
    </Documentation>"""
    + RADIANCE_INPUT
    + button("CopyCamera", "Copy Camera", "Take camera, shape and background of the active view.")
    + vector("CameraPosition", "Camera Position", "0 0 0", "Where one stands; the same as the focal point for a "
        "view of the whole.")
    + vector("CameraFocalPoint", "Camera Focal Point", "0 0 0", "Where one looks.")
    + vector("CameraViewUp", "Camera View Up", "0 0 1", "What is up in the picture.")
    + vector("CameraViewAngle", "Camera View Angle", "30", "Vertical, in degrees.")
    + vector("CameraParallelScale", "Camera Parallel Scale", "0", "Half the height that a parallel projection shows; 0 "
        "for perspective.", "advanced")
    + """
    <IntVectorProperty name="ImageSize" label="Image Size" command="SetImageSize" number_of_elements="2"
        default_values="400 300">
      <IntRangeDomain name="range" min="1 1" max="16384 16384"/>
      <Documentation>Pixels.</Documentation>
    </IntVectorProperty>
    <DoubleVectorProperty name="Background" command="SetBackground" number_of_elements="3" default_values="1 1 1"
        panel_widget="color_selector_with_palette">
      <DoubleRangeDomain name="range" min="0 0 0" max="1 1 1"/>
      <Documentation>Colour behind it.</Documentation>
    </DoubleVectorProperty>"""
    + vector("Step", "Step", "0.5", "Length of a step along a ray, in voxels.", "advanced")
    + flag("InScene", "In Scene", 1, "Place the picture where the camera sees it, across the line of sight at the "
        "focal point; else a pixel is one unit.", "advanced")
    + flag("Normals", "Normals", 0, "Add unit vectors against the density's gradient.", "advanced")
    + vector("TimeLimit", "Time Limit", "0", "Seconds after which to stop; 0 for no limit.", "advanced")
    + device()
    + backend()
    + integer("Threads", "Threads", 0, 0, 1024, "CPU threads; 0 for all, or one per process of a parallel run.")
    + group("Camera", "CopyCamera", "CameraPosition", "CameraFocalPoint", "CameraViewUp", "CameraViewAngle",
        "CameraParallelScale")
    + button("ShowPicture", "Show Picture", "Show the picture in its own colours in the active view. Apply first.")
    + group("Picture", "ShowPicture", "ImageSize", "Background", "Step", "Normals", "InScene")
)  # fmt: skip
class RadianceRender(radiance_render.RadianceRender):
    def CopyCamera(self):
        proxy = proxy_of(self)
        if proxy is not None:
            copy_camera(proxy)

    def ShowPicture(self):
        proxy = proxy_of(self)
        if proxy is not None:
            show_picture(proxy)


@smproxy.filter(name="RadianceCompress", label="Radiance Compress", support_reload=False)
@smhint.xml(MENU)
@smproperty.xml(
    """
    <Documentation short_help="Compress a radiance field" long_help="Compress a radiance field, and show what its file
      decodes to.">
      Compresses an image with a density and with spherical harmonics or colours, or the field of a radiance file. The
      first output is decoded from the very bytes of the file; Radiance Render renders it, File ▸ Save Data as .nvc
      writes that file. Its field data have bytes, ratio and the PSNR of pictures against those of the input, or against
      photographs if there are any. The second output is a table of what each step of the codec left.
    </Documentation>"""
    + RADIANCE_INPUT
    + choice("Codec", radiance_compress.codec_choices(), "The method; auto keeps the kind of model, rounded.")
    + choice("Preset", radiance_compress.preset_names(), "How strongly, and how long to work for it.")
    + """
    <StringVectorProperty name="CodecParameters" label="Codec Parameters" command="SetCodecParameters"
        number_of_elements="1" default_values="" panel_visibility="advanced">
      <Documentation>Parameters of the codec that replace those of the preset: name=value, separated by blanks. A wrong
        name lists all.</Documentation>
    </StringVectorProperty>
    <StringVectorProperty name="ImagesFolder" label="Images Folder" command="SetImagesFolder" number_of_elements="1"
        default_values="">
      <FileListDomain name="files"/>
      <Documentation>The photographs with cameras that the field was trained on, if they are at hand: codec vqrf then
        fine-tunes on them, PSNR is that against photographs, and a loss of PSNR can be the target.</Documentation>
      <Hints><UseDirectoryName/></Hints>
    </StringVectorProperty>"""
    + vector("Downscale", "Downscale", "1", "Makes photographs so many times smaller.", "advanced")
    + f"""
    <IntVectorProperty name="Target" command="SetTargetKind" number_of_elements="1" default_values="0">
      <EnumerationDomain name="enum">{entries("Entry", [t for _, t in radiance_compress.TARGETS])}</EnumerationDomain>
      <Documentation>What to reach; it is met, or there is an error that says what can be reached.</Documentation>
    </IntVectorProperty>"""
    + vector("Ratio", "Ratio", "50", "Bytes of the uncompressed model / of the file.", hints=shown_if("Target", 1))
    + vector("FileSize", "File Size", "1000000", "Bytes the file takes at most.", hints=shown_if("Target", 2))
    + vector("PSNRLoss", "PSNR Loss", "0.2", "At most so many dB worse on unseen photographs; needs their folder.",
        hints=shown_if("Target", 3))
    + integer("Views", "Views", 4, 0, 1000, "Pictures on a circle around it, or unseen photographs, whose PSNR is "
        "taken; 0 for none.")
    + """
    <StringVectorProperty name="FileName" label="File Name" command="SetFileName" number_of_elements="1"
        default_values="" panel_visibility="advanced">
      <FileListDomain name="files"/>
      <Documentation>A .nvc file to write each time the filter runs. Nothing is written if it is empty.</Documentation>
      <Hints><AcceptAnyFile/><FileChooser extensions="nvc" file_description="NeurComp Files"/></Hints>
    </StringVectorProperty>"""
    + choice("Device", ["auto", "cpu", "cuda"], "Where to compute; auto takes CUDA if present.", "advanced")
    + integer("Seed", "Seed", 0, 0, 2**31 - 1, "Same seed, same data, same bytes.")
    + vector("TimeLimit", "Time Limit", "0", "Seconds after which to stop; 0 for no limit.", "advanced")
    + integer("Threads", "Threads", 0, 0, 1024, "CPU threads; 0 for all, or one per process of a parallel run.")
    + group("Compression", "Codec", "Preset", "CodecParameters", "Target", "Ratio", "FileSize", "PSNRLoss")
    + group("Photographs", "ImagesFolder", "Downscale")
    + button("ShowAsVolume", "Show As Volume", "Show what was decoded as a volume in its own colours, means over all "
        "directions, in the active view. Apply first.")
    + '<OutputPort index="0" name="Decoded"/><OutputPort index="1" name="Stages"/>'
)  # fmt: skip
class RadianceCompress(radiance_compress.RadianceCompress):
    def ShowAsVolume(self):
        proxy = proxy_of(self)
        if proxy is not None:
            show_as_volume(proxy)


@smproxy.reader(
    name="NvcReader",
    label="NeurComp Reader",
    extensions="nvc tthresh",
    file_description="NeurComp and TTHRESH Files",
    support_reload=False,
)
@smproperty.xml(
    """
    <Documentation short_help="Open .nvc and .tthresh files" long_help="Decode NeurComp (.nvc) and TTHRESH files
      (.tthresh), whole or at a lower level of detail.">
      Decodes NeurComp files. Only the extent that is asked for is decoded. Several files make a series.
    </Documentation>
    <StringVectorProperty name="FileNames" label="File Names" command="AddFileName" clean_command="ClearFileNames"
        repeat_command="1" number_of_elements="1" animateable="0" panel_visibility="never">
      <FileListDomain name="files"/>
      <Documentation>The file, or the files of a series.</Documentation>
      <Hints><FileChooser extensions="nvc tthresh" file_description="NeurComp and TTHRESH Files"/></Hints>
    </StringVectorProperty>
    <StringVectorProperty name="FileNameInfo" command="GetFileName" information_only="1">
      <SimpleStringInformationHelper/>
    </StringVectorProperty>
    <DoubleVectorProperty name="TimestepValues" command="GetTimestepValues" information_only="1" repeatable="1"
        si_class="vtkSITimeStepsProperty"/>"""
    + integer(
        "LevelOfDetail", "Level Of Detail", 0, 0, 8, "0 takes every sample, 1 every 2nd, 2 every 4th ...", "default"
    )
    + "".join(
        f"""
    <StringVectorProperty name="{kind}ArrayInfo" command="Get{kind}DataArraySelection" information_only="1"
        number_of_elements_per_command="2" si_class="vtkSIDataArraySelectionProperty"/>
    <StringVectorProperty name="{kind}ArrayStatus" label="{kind} Arrays" command="Get{kind}DataArraySelection"
        information_property="{kind}ArrayInfo" number_of_elements_per_command="2" element_types="2 0"
        repeat_command="1" si_class="vtkSIDataArraySelectionProperty">
      <ArraySelectionDomain name="array_list">
        <RequiredProperties><Property name="{kind}ArrayInfo" function="ArrayList"/></RequiredProperties>
      </ArraySelectionDomain>
      <Documentation>{kind} data arrays to decode.</Documentation>
      <Hints><ArraySelectionWidget icon_type="{kind.lower()}"/></Hints>
    </StringVectorProperty>"""
        for kind in ("Point", "Cell")
    )
    + """
    <IntVectorProperty name="HoldsRadiance" command="GetHoldsRadiance" information_only="1">
      <SimpleIntInformationHelper/>
    </IntVectorProperty>"""
    + f"""
    <IntVectorProperty name="Resolution" command="SetResolution" number_of_elements="1" default_values="0">
      <IntRangeDomain name="range" min="0" max="2048"/>
      <Documentation>Radiance fields: voxels along the longest side; 0 for the field's own, or 128 if it has no
        grid.</Documentation>
      {shown_if("HoldsRadiance", 1)}
    </IntVectorProperty>"""
    + vector(
        "ViewDirection", "View Direction", "0 0 0", "Radiance fields: along which one looks, for the arrays color and "
        "rgba; zeros for the mean over all directions.", hints=shown_if("HoldsRadiance", 1),
    )
    + button(
        "ShowAsVolume", "Show As Volume", "Radiance fields: show the array rgba as a volume in its own colours, as "
        "seen along View Direction, in the active view. Apply first.", shown_if("HoldsRadiance", 1),
    )
    + integer("Threads", "Threads", 0, 0, 1024, "CPU threads; 0 for all, or one per process of a parallel run.")
)  # fmt: skip
class NvcReader(reader.NvcReader):
    def ShowAsVolume(self):
        proxy = proxy_of(self)
        if proxy is not None:
            show_as_volume(proxy)


@smproxy.writer(
    name="NvcWriter", label="NeurComp Writer", extensions="nvc", file_description="NeurComp Files",
    support_reload=False, supports_parallel="1", file_name_method="SetFileName",
)  # fmt: skip
@smproperty.xml(
    """
    <Documentation short_help="Save .nvc files" long_help="Compress a data set into a NeurComp file (.nvc).">
      Compresses an image or a rectilinear grid into a NeurComp file. The output of Neural Compress is written as it was
      compressed.
    </Documentation>"""
    + data_input(documentation="The data set to save.")
    + """
    <StringVectorProperty name="FileName" command="SetFileName" number_of_elements="1" panel_visibility="never">
      <Documentation>The file to write.</Documentation>
    </StringVectorProperty>"""
    + arrays("Point")
    + arrays("Cell")
    + flag(
        "ReuseCompressed", "Reuse Compressed", 1, "Write the output of Neural Compress as the bytes it came from; "
        "target, codec and preset are not used then.",
    )
    + COMPRESSION
    + flag("WriteAllTimeSteps", "Write All Time Steps", 0, "Put all time steps of the input into the file.")
    + integer(
        "KeyStepEvery", "Key Step Every", writer.KEY_EVERY, 0, 256, "Of all time steps at least every so many can be "
        "read alone; the others are predicted from those before where that is smaller. 1: all, 0: as few as pay.",
    )
    + '<Hints><Property name="Input" show="0"/><Property name="FileName" show="0"/></Hints>'
)  # fmt: skip
class NvcWriter(writer.NvcWriter):
    pass


# What buttons do. They are methods of the algorithm, which is in the client's process only with the built-in server.


def proxy_of(algorithm):
    """ParaView's proxy of an algorithm; None, and an error, if that runs on a server."""
    from paraview import simple

    for proxy in simple.GetSources().values():
        if proxy.SMProxy.GetClientSideObject() is algorithm:
            return proxy
    algorithm.SetError("buttons work with the built-in server only; docs/paraview.md says what to do with others")
    return None


def copy_camera(proxy):
    """Give a Radiance Render the camera, the shape and the background of the active view."""
    from paraview import simple

    view = simple.GetActiveView()
    if view is None or not hasattr(view, "CameraPosition"):
        return
    view.UpdatePropertyInformation()
    for name in ("CameraPosition", "CameraFocalPoint", "CameraViewUp", "CameraViewAngle"):
        setattr(proxy, name, getattr(view, name))
    proxy.CameraParallelScale = view.CameraParallelScale if view.CameraParallelProjection else 0.0
    width, height = view.ViewSize
    # The picture's own area, in the shape of the view.
    side = (proxy.ImageSize[0] * proxy.ImageSize[1] / (width * height)) ** 0.5
    proxy.ImageSize = [max(1, round(width * side)), max(1, round(height * side))]
    if not view.UseColorPaletteForBackground:
        proxy.Background = view.Background


def show_picture(proxy):
    """Show a picture in its own colours, not through a colour map."""
    from paraview import simple

    view = simple.GetActiveViewOrCreate("RenderView")
    display = simple.Show(proxy, view)
    simple.ColorBy(display, ("POINTS", radiance_render.RGB))
    display.MapScalars = 0
    # Light would shade it.
    display.Ambient, display.Diffuse, display.Specular = 1.0, 0.0, 0.0
    display.SetScalarBarVisibility(view, False)
    simple.Render(view)


def show_as_volume(proxy):
    """Show the array rgba of a radiance field in its own colours."""
    from paraview import simple

    view = simple.GetActiveViewOrCreate("RenderView")
    display = simple.Show(proxy, view)
    display.SetRepresentationType("Volume")
    simple.ColorBy(display, ("POINTS", radiance_image.RGBA), True)
    display.MapScalars = 0
    # ParaView's mapper of four components takes one as the unit distance whatever is set.
    display.ScalarOpacityUnitDistance = 1.0
    length = proxy.FieldData[radiance_file.ALPHA_LENGTH].GetRange(0)[0]
    display.ScalarOpacityFunction.Points = radiance_image.opacity_points(length)
    display.SetScalarBarVisibility(view, False)
    simple.Render(view)
