# SPDX-License-Identifier: Apache-2.0
# The package TorchAccelerated: installed, and in the build folder for projects beside this one.

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/TorchAccelerated)
set(header_set)
if(CMAKE_VERSION VERSION_GREATER_EQUAL 3.23)
  set(header_set FILE_SET HEADERS)
  if(TORCH_ACCELERATED_HAS_MPI)
    list(APPEND header_set FILE_SET mpi_headers)
  endif()
else()
  install(DIRECTORY include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
endif()
install(TARGETS torch_accelerated torch_accelerated_weights EXPORT TorchAcceleratedTargets ${header_set})
install(
  EXPORT TorchAcceleratedTargets
  NAMESPACE TorchAccelerated::
  DESTINATION ${package_dir})

get_target_property(library_type torch_accelerated TYPE)
configure_package_config_file(
  cmake/TorchAcceleratedConfig.cmake.in ${PROJECT_BINARY_DIR}/TorchAcceleratedConfig.cmake
  INSTALL_DESTINATION ${package_dir}
  NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(
  ${PROJECT_BINARY_DIR}/TorchAcceleratedConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(
  FILES ${PROJECT_BINARY_DIR}/TorchAcceleratedConfig.cmake
        ${PROJECT_BINARY_DIR}/TorchAcceleratedConfigVersion.cmake
        cmake/FindLibTorch.cmake
        cmake/TorchAcceleratedMpi.cmake
        cmake/TorchAcceleratedPreferFmt.cmake
  DESTINATION ${package_dir})

export(
  EXPORT TorchAcceleratedTargets
  NAMESPACE TorchAccelerated::
  FILE ${PROJECT_BINARY_DIR}/TorchAcceleratedTargets.cmake)
configure_file(cmake/FindLibTorch.cmake ${PROJECT_BINARY_DIR}/FindLibTorch.cmake COPYONLY)
configure_file(cmake/TorchAcceleratedMpi.cmake ${PROJECT_BINARY_DIR}/TorchAcceleratedMpi.cmake COPYONLY)
configure_file(cmake/TorchAcceleratedPreferFmt.cmake ${PROJECT_BINARY_DIR}/TorchAcceleratedPreferFmt.cmake COPYONLY)
