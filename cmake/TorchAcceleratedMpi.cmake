# SPDX-License-Identifier: Apache-2.0
# Looks for MPI and defines TorchAccelerated::mpi, its C interface, where there is one; for the
# library's own build and for programs that are linked with it.

if(TARGET TorchAccelerated::mpi)
  return()
endif()

# FindMPI asks the compiler of an enabled language. In a project without C it is C++'s, whose wrapper
# brings the C interface as well.
set(_TorchAccelerated_mpi_language CXX)
if(CMAKE_C_COMPILER_LOADED)
  set(_TorchAccelerated_mpi_language C)
endif()
set(_TorchAccelerated_mpi MPI::MPI_${_TorchAccelerated_mpi_language})
set(_TorchAccelerated_mpi_is_others FALSE)
if(TARGET ${_TorchAccelerated_mpi})
  set(_TorchAccelerated_mpi_is_others TRUE)
else()
  find_package(MPI QUIET COMPONENTS ${_TorchAccelerated_mpi_language})
endif()
# FindMPI leaves its target behind where it has found none.
if(_TorchAccelerated_mpi_is_others OR MPI_${_TorchAccelerated_mpi_language}_FOUND)
  # Seen from all folders of a project, like the library that is linked with it.
  if(NOT _TorchAccelerated_mpi_is_others)
    set_target_properties(${_TorchAccelerated_mpi} PROPERTIES IMPORTED_GLOBAL TRUE)
  endif()
  add_library(TorchAccelerated::mpi INTERFACE IMPORTED GLOBAL)
  target_link_libraries(TorchAccelerated::mpi INTERFACE ${_TorchAccelerated_mpi})
endif()
